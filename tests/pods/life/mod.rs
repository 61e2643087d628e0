//! How pods live while their node, the API server and the runtime misbehave.

mod absence;
mod admission;
mod answers;
mod backoff;
mod deletion;
mod hooks;
mod isolation;
mod many;
mod others;
mod probes;
mod records;
mod redefined;
mod resize;
mod restarts;
mod static_pods;
mod termination;
