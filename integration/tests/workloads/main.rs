//! Pods from the API server, with a real runtime, as the person who applied them sees them.

mod access;
mod broken;
mod lifecycle;
mod running;
mod static_pods;
mod volumes;

use integration::Lab;
use integration::fixture::SharedLab;

static LAB: SharedLab = SharedLab::new(|| Lab::builder("pods"));
