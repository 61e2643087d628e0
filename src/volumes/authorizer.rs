//! Parts of the API server learn of a pod a moment after the node does.
//!
//! Until then the node authorizer refuses what the pod needs with "no relationship found" (plugin/pkg/auth/authorizer/node of Kubernetes),
//! and NodeRestriction refuses a token for a pod that it doesn't know yet, or not yet on this node (plugin/pkg/admission/noderestriction,
//! admitServiceAccount). Trying again at once saves the pod a whole back-off.

use std::time::Duration;

use crate::api::{ErrorKind, Result};

/// Pauses between tries: about 1.5 s in all.
const PAUSES: [u64; 8] = [5, 10, 20, 50, 100, 200, 400, 800];

/// Makes a call, again while the server may not know the pod yet.
pub(super) async fn once_it_knows<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    for pause in PAUSES {
        match call().await {
            Err(e) if is_early(&e.kind) => {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            result => return result,
        }
    }
    call().await
}

fn is_early(kind: &ErrorKind) -> bool {
    match kind {
        ErrorKind::Forbidden(why) => ["no relationship found", "scheduled on a different node"].iter().any(|words| why.contains(words)),
        ErrorKind::NotFound(why) => why.starts_with("pod \""),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Error;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn only_refusals_of_the_node_authorizer_are_worth_a_wait() {
        let forbidden = |why: &str| ErrorKind::Forbidden(why.into());
        let lag = || forbidden("secrets \"s\" is forbidden: no relationship found between node 'n' and this object");
        let elsewhere = forbidden("serviceaccounts \"s\" is forbidden: node requested token bound to a pod scheduled on a different node");
        for (why, knows_at, want_calls, want_ok) in [
            (lag(), 3, 4, true),
            (lag(), 100, 9, false),
            (elsewhere, 3, 4, true),
            (ErrorKind::NotFound("pod \"web\" not found".into()), 3, 4, true),
            (ErrorKind::NotFound("secrets \"web\" not found".into()), 3, 1, false),
            (forbidden("RBAC says no"), 3, 1, false),
        ] {
            let calls = AtomicUsize::new(0);
            let result = once_it_knows(|| async {
                let refused = || Error { action: "get".into(), kind: why.clone() };
                if calls.fetch_add(1, Ordering::Relaxed) >= knows_at { Ok(()) } else { Err(refused()) }
            })
            .await;
            assert_eq!((calls.into_inner(), result.is_ok()), (want_calls, want_ok), "{why:?} {knows_at}");
        }
    }
}
