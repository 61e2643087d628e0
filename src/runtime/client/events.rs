//! Hints from the runtime's event stream.
//!
//! containerd sends events since 1.7 and always; 1.6 doesn't know the call. CRI-O sends them when its configuration says so.

use std::time::Duration;

use futures::future::{BoxFuture, Either, FutureExt, select};
use futures::stream::{self, BoxStream, StreamExt};
use proto::cri::{ContainerEventResponse, GetEventsRequest};
use tonic::{Code, Status, Streaming};

use super::{CriRuntime, system};
use crate::model::PodUid;
use crate::runtime::names;

/// Pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(3);
/// How often everything is looked at when the runtime sends no events: a crashed container is noticed after five seconds on average.
const WITHOUT_EVENTS: Duration = Duration::from_secs(10);

type Events = Streaming<ContainerEventResponse>;
/// A call that is answered when the first event comes: servers written in Go send no headers before.
type Subscription = BoxFuture<'static, Result<Events, Status>>;

/// Where the stream of hints is. The pauses are those before the next attempt to connect, should this one fail.
enum State {
    /// Not connected.
    Waiting { pause: Duration },
    /// Subscribed; no event came so far.
    Subscribed { call: Subscription, pause: Duration },
    /// Events come in.
    Listening(Events),
    /// The runtime has no events.
    Polling,
}

/// The hints, for ever. The first one is `None`, as soon as the runtime answers.
pub(super) fn hints(cri: CriRuntime) -> BoxStream<'static, Option<PodUid>> {
    let start = (cri, State::Waiting { pause: Duration::ZERO });
    stream::unfold(start, |(cri, mut state)| async move {
        loop {
            let (hint, next) = step(&cri, state).await;
            state = next;
            if let Some(hint) = hint {
                return Some((hint, (cri, state)));
            }
        }
    })
    .boxed()
}

/// One step: maybe a hint, and the next state.
async fn step(cri: &CriRuntime, state: State) -> (Option<Option<PodUid>>, State) {
    match state {
        State::Waiting { pause } => {
            tokio::time::sleep(pause).await;
            subscribe(cri, (pause * 2).clamp(FIRST_PAUSE, LAST_PAUSE)).await
        }
        State::Subscribed { call, pause } => match call.await {
            Ok(events) => (None, State::Listening(events)),
            Err(status) => failed(&status, pause),
        },
        State::Listening(mut events) => match events.message().await {
            Ok(Some(event)) => (Some(pod_of(&event)), State::Listening(events)),
            Ok(None) | Err(_) => (None, State::Waiting { pause: FIRST_PAUSE }),
        },
        State::Polling => {
            tokio::time::sleep(WITHOUT_EVENTS).await;
            (Some(None), State::Polling)
        }
    }
}

/// Subscribes, and asks for the version behind that on the same connection: when the version is there, the subscription is too, and
/// whoever looks at everything now misses nothing.
async fn subscribe(cri: &CriRuntime, pause: Duration) -> (Option<Option<PodUid>>, State) {
    let mut client = cri.runtime();
    let call: Subscription = async move { Ok(client.get_container_events(GetEventsRequest {}).await?.into_inner()) }.boxed();
    match select(call, Box::pin(system::version(cri))).await {
        Either::Left((Ok(events), _)) => (Some(None), State::Listening(events)),
        Either::Left((Err(status), _)) => failed(&status, pause),
        Either::Right((Ok(_), call)) => (Some(None), State::Subscribed { call, pause }),
        Either::Right((Err(_), _)) => (None, State::Waiting { pause }),
    }
}

fn failed(status: &Status, pause: Duration) -> (Option<Option<PodUid>>, State) {
    if status.code() != Code::Unimplemented {
        return (None, State::Waiting { pause });
    }
    tracing::warn!("the container runtime sends no events; the agent looks at all containers every {WITHOUT_EVENTS:?} instead");
    (Some(None), State::Polling)
}

/// Whose event it is: from the sandbox, else from a container's labels. `None` when the runtime tells neither.
fn pod_of(event: &ContainerEventResponse) -> Option<PodUid> {
    let sandbox = event.pod_sandbox_status.as_ref().and_then(|s| s.metadata.as_ref()).map(|m| m.uid.as_str());
    let label = || event.containers_statuses.iter().find_map(|c| c.labels.get(names::POD_UID)).map(String::as_str);
    sandbox.filter(|uid| !uid.is_empty()).or_else(label).map(PodUid::from)
}
