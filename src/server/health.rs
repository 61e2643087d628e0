//! Whether the agent works, for systemd units, kubeadm and probes. The decision is pure.

use std::sync::Arc;

use http::{Response, StatusCode};

use super::query::Query;
use super::response::{self, Body};

/// A check: `Err` says what is wrong.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Named checks, in the order in which they are shown.
#[derive(Clone)]
pub struct Checks(Vec<(&'static str, Check)>);

impl Checks {
    /// Only whether anybody answers: for the plain listener, which must work before anything else does.
    pub fn ping() -> Self {
        Self(vec![("ping", Arc::new(|| Ok(())))])
    }

    /// All checks of the main listener. `sync_loop` fails when the agent has not looked at its pods for too long.
    pub fn all(sync_loop: Check) -> Self {
        Self(vec![("ping", Arc::new(|| Ok(()))), ("log", Arc::new(|| Ok(()))), ("syncloop", sync_loop)])
    }

    /// Answers `/healthz`, or with a name `/healthz/<name>`.
    pub fn answer(&self, name: Option<&str>, query: &Query) -> Response<Body> {
        let (status, text) = match name {
            None => self.summary(query),
            Some(name) => self.single(name),
        };
        response::text(status, text)
    }

    fn single(&self, name: &str) -> (StatusCode, String) {
        match self.0.iter().find(|(n, _)| *n == name) {
            None => (StatusCode::NOT_FOUND, "404 page not found\n".into()),
            Some((_, check)) => match check() {
                Ok(()) => (StatusCode::OK, "ok".into()),
                Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
            },
        }
    }

    fn summary(&self, query: &Query) -> (StatusCode, String) {
        let mut report = String::new();
        let mut failed = false;
        for (name, check) in &self.0 {
            if query.all("exclude").any(|excluded| excluded == *name) {
                report += &format!("[+]{name} excluded: ok\n");
            } else if let Err(why) = check() {
                // Those who may see the summary need not see the reason.
                tracing::info!(check = name, why, "health check failed");
                report += &format!("[-]{name} failed: reason withheld\n");
                failed = true;
            } else {
                report += &format!("[+]{name} ok\n");
            }
        }
        match (failed, query.first("verbose")) {
            (true, _) => (StatusCode::INTERNAL_SERVER_ERROR, report + "healthz check failed\n"),
            (false, Some(_)) => (StatusCode::OK, report + "healthz check passed\n"),
            (false, None) => (StatusCode::OK, "ok".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let good = Checks::all(Arc::new(|| Ok(())));
        let bad = Checks::all(Arc::new(|| Err("stuck".into())));
        let all = "[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n";
        let broken = "[+]ping ok\n[+]log ok\n[-]syncloop failed: reason withheld\nhealthz check failed\n";
        let table = [
            (&good, None, "", 200, "ok"),
            (&good, None, "verbose", 200, all),
            (&good, Some("syncloop"), "", 200, "ok"),
            (&good, Some("other"), "", 404, "404 page not found\n"),
            (&bad, None, "", 500, broken),
            (&bad, None, "exclude=syncloop", 200, "ok"),
            (&bad, Some("ping"), "", 200, "ok"),
            (&bad, Some("syncloop"), "", 500, "internal server error: stuck\n"),
        ];
        for (checks, name, query, status, text) in table {
            let query = Query::parse(Some(query)).unwrap();
            let got = name.map_or_else(|| checks.summary(&query), |name| checks.single(name));
            assert_eq!((got.0.as_u16(), got.1.as_str()), (status, text));
        }
    }
}
