//! Which request is for what. Pure.

use http::Method;

/// A pod in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPath {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID, where the path has one.
    pub uid: Option<String>,
}

/// A container in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPath {
    /// The pod.
    pub pod: PodPath,
    /// The container's name.
    pub container: String,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/healthz`, or with a name one of its checks.
    Health(Option<String>),
    /// `/pods`.
    Pods,
    /// `/runningpods/`.
    RunningPods,
    /// `/containerLogs/{namespace}/{pod}/{container}`.
    Logs(ContainerPath),
    /// `/exec/{namespace}/{pod}[/{uid}]/{container}`.
    Exec(ContainerPath),
    /// `/attach/{namespace}/{pod}[/{uid}]/{container}`.
    Attach(ContainerPath),
    /// `/portForward/{namespace}/{pod}[/{uid}]`.
    PortForward(PodPath),
    /// `/configz`.
    Configz,
    /// `/logs/{path}`.
    NodeLogs {
        /// Below the log directory.
        path: String,
        /// Whether the path ends with a slash: that of a directory must, or its links lead elsewhere.
        slash: bool,
    },
}

/// Why there is nothing to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// 404.
    NotFound,
    /// 405, with the wrong method.
    Method,
    /// 405, because `enableDebuggingHandlers` is false.
    DebuggingDisabled,
}

/// Roots that say "disabled" when debugging handlers are; the others are simply not there then (upstream's server.go).
const DEBUGGING: [&str; 8] = ["run", "exec", "attach", "portForward", "containerLogs", "runningpods", "debug", "logs"];

/// Finds the route of a decoded path.
pub fn find(method: &Method, path: &str, debugging: bool) -> Result<Route, NoRoute> {
    let path = path.strip_prefix('/').ok_or(NoRoute::NotFound)?;
    let (path, slash) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
    let parts: Vec<&str> = path.split('/').collect();
    let Some((root, rest)) = parts.split_first() else { return Err(NoRoute::NotFound) };
    if !debugging && DEBUGGING.contains(root) {
        return Err(NoRoute::DebuggingDisabled);
    }
    if rest.iter().any(|part| part.is_empty()) {
        return Err(NoRoute::NotFound);
    }
    let (route, may_post) = match (*root, rest) {
        ("healthz", []) => (Route::Health(None), false),
        ("healthz", [check]) => (Route::Health(Some((*check).to_owned())), false),
        ("pods", []) => (Route::Pods, false),
        ("runningpods", []) => (Route::RunningPods, false),
        ("configz", []) if debugging => (Route::Configz, false),
        ("logs", _) => (Route::NodeLogs { path: rest.join("/"), slash }, false),
        ("containerLogs", [_, _, _]) => (Route::Logs(container(rest)?), false),
        ("exec", _) => (Route::Exec(container(rest)?), true),
        ("attach", _) => (Route::Attach(container(rest)?), true),
        ("portForward", [namespace, name]) => (Route::PortForward(pod(namespace, name, None)), true),
        ("portForward", [namespace, name, uid]) => (Route::PortForward(pod(namespace, name, Some(uid))), true),
        _ => return Err(NoRoute::NotFound),
    };
    match *method {
        Method::GET => Ok(route),
        // Load balancers ask with HEAD, and upstream's handler doesn't look at the method.
        _ if matches!(route, Route::Health(_)) => Ok(route),
        Method::POST if may_post => Ok(route),
        _ => Err(NoRoute::Method),
    }
}

fn container(parts: &[&str]) -> Result<ContainerPath, NoRoute> {
    let (pod, name) = match parts {
        [namespace, name, container] => (pod(namespace, name, None), container),
        [namespace, name, uid, container] => (pod(namespace, name, Some(uid)), container),
        _ => return Err(NoRoute::NotFound),
    };
    Ok(ContainerPath { pod, container: (*name).to_owned() })
}

fn pod(namespace: &str, name: &str, uid: Option<&str>) -> PodPath {
    PodPath { namespace: namespace.to_owned(), name: name.to_owned(), uid: uid.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn routes() {
        let web = |uid: Option<&str>| ContainerPath { pod: pod("ns", "web", uid), container: "c".into() };
        let table = [
            ("GET", "/healthz", Ok(Route::Health(None))),
            ("GET", "/healthz/", Ok(Route::Health(None))),
            ("GET", "/healthz/ping", Ok(Route::Health(Some("ping".into())))),
            ("GET", "/healthz/ping/pong", Err(NoRoute::NotFound)),
            ("HEAD", "/healthz", Ok(Route::Health(None))),
            ("POST", "/healthz/ping", Ok(Route::Health(Some("ping".into())))),
            ("GET", "/pods", Ok(Route::Pods)),
            ("GET", "/pods/", Ok(Route::Pods)),
            ("GET", "/pods//", Err(NoRoute::NotFound)),
            ("POST", "/pods", Err(NoRoute::Method)),
            ("HEAD", "/pods", Err(NoRoute::Method)),
            ("GET", "/runningpods/", Ok(Route::RunningPods)),
            ("GET", "/configz", Ok(Route::Configz)),
            ("GET", "/logs", Ok(Route::NodeLogs { path: String::new(), slash: false })),
            ("GET", "/logs/pods/", Ok(Route::NodeLogs { path: "pods".into(), slash: true })),
            ("GET", "/logs/pods/0.log", Ok(Route::NodeLogs { path: "pods/0.log".into(), slash: false })),
            ("POST", "/logs/", Err(NoRoute::Method)),
            ("GET", "/logs//etc", Err(NoRoute::NotFound)),
            ("GET", "/containerLogs/ns/web/c", Ok(Route::Logs(web(None)))),
            ("POST", "/containerLogs/ns/web/c", Err(NoRoute::Method)),
            ("GET", "/containerLogs/ns/web/uid/c", Err(NoRoute::NotFound)),
            ("GET", "/containerlogs/ns/web/c", Err(NoRoute::NotFound)),
            ("GET", "/exec/ns/web/c", Ok(Route::Exec(web(None)))),
            ("POST", "/exec/ns/web/uid/c", Ok(Route::Exec(web(Some("uid"))))),
            ("POST", "/exec/ns/web//c", Err(NoRoute::NotFound)),
            ("POST", "/exec/ns/web", Err(NoRoute::NotFound)),
            ("PUT", "/exec/ns/web/c", Err(NoRoute::Method)),
            ("GET", "/attach/ns/web/c", Ok(Route::Attach(web(None)))),
            ("POST", "/portForward/ns/web", Ok(Route::PortForward(pod("ns", "web", None)))),
            ("POST", "/portForward/ns/web/uid", Ok(Route::PortForward(pod("ns", "web", Some("uid"))))),
            ("GET", "/portForward/ns", Err(NoRoute::NotFound)),
            ("GET", "/", Err(NoRoute::NotFound)),
            ("GET", "", Err(NoRoute::NotFound)),
            ("GET", "*", Err(NoRoute::NotFound)),
            ("GET", "//pods", Err(NoRoute::NotFound)),
            ("GET", "/metrics/../pods", Err(NoRoute::NotFound)),
        ];
        for (method, path, want) in table {
            assert_eq!(find(&method.parse().unwrap(), path, true), want, "{method} {path}");
        }
    }

    #[test]
    fn without_debugging_handlers() {
        let table = [
            ("/pods", Ok(Route::Pods)),
            ("/healthz", Ok(Route::Health(None))),
            ("/configz", Err(NoRoute::NotFound)),
            ("/exec/ns/web/c", Err(NoRoute::DebuggingDisabled)),
            ("/run/x", Err(NoRoute::DebuggingDisabled)),
            ("/logs/", Err(NoRoute::DebuggingDisabled)),
            ("/runningpods/", Err(NoRoute::DebuggingDisabled)),
        ];
        for (path, want) in table {
            assert_eq!(find(&Method::GET, path, false), want, "{path}");
        }
    }

    proptest! {
        #[test]
        fn anything_goes_in(path in ".*", debugging: bool) {
            let _ = find(&Method::GET, &path, debugging);
        }
    }
}
