//! The node authorizer learns of a pod a moment after the node does.
//!
//! Until then it refuses what the pod needs with "no relationship found" (plugin/pkg/auth/authorizer/node of Kubernetes). Trying
//! again at once saves the pod a whole back-off.

use std::time::Duration;

use crate::api::{ErrorKind, Result};

/// Pauses between tries: about 1.5 s in all.
const PAUSES: [u64; 5] = [50, 100, 200, 400, 800];

/// Makes a call, again while the authorizer may not know the pod yet.
pub(super) async fn once_it_knows<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    for pause in PAUSES {
        match call().await {
            Err(e) if matches!(&e.kind, ErrorKind::Forbidden(why) if why.contains("no relationship found")) => {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            result => return result,
        }
    }
    call().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Error;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn only_refusals_of_the_node_authorizer_are_worth_a_wait() {
        let lag = "secrets \"s\" is forbidden: no relationship found between node 'n' and this object";
        for (why, knows_at, want_calls, want_ok) in [(lag, 3, 4, true), (lag, 100, 6, false), ("RBAC says no", 3, 1, false)] {
            let calls = AtomicUsize::new(0);
            let result = once_it_knows(|| async {
                let forbidden = || Error { action: "get".into(), kind: ErrorKind::Forbidden(why.into()) };
                if calls.fetch_add(1, Ordering::Relaxed) >= knows_at { Ok(()) } else { Err(forbidden()) }
            })
            .await;
            assert_eq!((calls.into_inner(), result.is_ok()), (want_calls, want_ok), "{why} {knows_at}");
        }
    }
}
