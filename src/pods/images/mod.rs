//! temporary
#![allow(missing_docs)]
use k8s_openapi::api::core::v1::{Container, Pod};
use proto::cri::PodSandboxConfig;
use crate::api::events::EventType;
pub struct ImageEvent { pub kind: EventType, pub reason: &'static str, pub message: String }
pub struct ImageProblem { pub reason: &'static str, pub message: String }
pub struct Images;
impl Images {
    pub async fn ensure(&self, _pod: &Pod, _c: &Container, _s: &PodSandboxConfig, _sink: &(dyn Fn(ImageEvent) + Send + Sync)) -> Result<crate::runtime::Image, ImageProblem> { Err(ImageProblem { reason: "", message: String::new() }) }
}
