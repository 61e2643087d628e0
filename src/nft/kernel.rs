//! The kernel's nftables: sends transactions and reads back what stands, each with a deadline.

use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::backend::{Netfilter, TableState};
use super::error::Error;
use super::monitor::Monitor;
use super::objects::{Element, TableId};
use super::read;
use super::socket::{Socket, io_error};
use super::transaction::Transaction;
use super::wire::batch::Batch;
use super::wire::decode::Answer;

/// How long a call may take. The kernel takes 100,000 elements in 0.25 s; what makes it wait is another program that holds nftables' lock
/// while it loads a large ruleset in a layout that the kernel is slow with: minutes were reported for those of kube-proxy.
const PATIENCE: Duration = Duration::from_secs(90);

/// nftables of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Kernel {
    /// `None` after a call that failed, or that didn't end in time and still owns it.
    socket: Option<Socket>,
    /// The socket's port, by which own changes are told from others'.
    port: Option<u32>,
    /// Ends with the call that didn't end in time. Until then no other one starts: it would be overtaken by what is given up.
    late: Option<oneshot::Receiver<Never>>,
    monitor: Option<Monitor>,
    patience: Duration,
    /// The generation that the ruleset has if nobody else changed it since [`Netfilter::unwatch`].
    generation: Option<u32>,
}

/// Never sent: the other end's drop is the message.
#[derive(Debug)]
enum Never {}

impl Kernel {
    /// Opens nothing yet.
    fn new(patience: Duration) -> Self {
        Self { socket: None, port: None, late: None, monitor: None, patience, generation: None }
    }

    /// Opens nftables. Fails with [`Error::NoPermission`] or [`Error::NotSupported`] where the first transaction would.
    pub async fn open() -> Result<Self, Error> {
        const DOING: &str = "open nftables";
        let mut kernel = Self::new(PATIENCE);
        kernel.generation(DOING).await?;
        Ok(kernel)
    }

    async fn generation(&mut self, doing: &'static str) -> Result<u32, Error> {
        self.call(doing, move |socket| read::generation(socket).map_err(|errno| failed(doing, errno))).await
    }

    /// Runs a blocking call beside the async tasks, with the deadline.
    async fn call<T: Send + 'static>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&mut Socket) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if self.late.as_mut().is_some_and(|late| matches!(late.try_recv(), Err(TryRecvError::Empty))) {
            return Err(Error::Timeout { doing, seconds: self.patience.as_secs() });
        }
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => {
                let socket = open(self.patience)?;
                self.port = socket.port().ok();
                socket
            }
        };
        let (alive, late) = oneshot::channel();
        self.late = Some(late);
        let task = tokio::task::spawn_blocking(move || {
            let _alive = alive;
            let result = work(&mut socket);
            (socket, result)
        });
        match tokio::time::timeout(self.patience, task).await {
            Ok(Ok((socket, result))) => {
                // After a failure answers may still wait in the socket: the next call gets a new one.
                self.socket = result.is_ok().then_some(socket);
                result
            }
            Ok(Err(join)) => Err(Error::Socket { doing, source: std::io::Error::other(join) }),
            Err(_) => Err(Error::Timeout { doing, seconds: self.patience.as_secs() }),
        }
    }
}

fn open(patience: Duration) -> Result<Socket, Error> {
    Socket::open(patience).map_err(|errno| failed("open a netlink socket", errno))
}

/// An error number that is not the answer to a change.
fn failed(doing: &'static str, errno: Errno) -> Error {
    match errno {
        Errno::EPERM | Errno::EACCES => Error::NoPermission,
        Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP => Error::NotSupported,
        Errno::EAGAIN => Error::Timeout { doing, seconds: PATIENCE.as_secs() },
        other => Error::Socket { doing, source: io_error(other) },
    }
}

/// The kernel's answers to a batch as its result: the first refused change, in the order of the transaction.
fn verdict(transaction: &Transaction, batch: &Batch, answers: Vec<Answer>) -> Result<(), Error> {
    let answered = answers.iter().any(|answer| answer.seq == batch.answered());
    // The batch as a whole comes first: if it was refused, no change of it was looked at, or none of them is to blame.
    let first = answers.into_iter().filter(|answer| answer.errno != 0).min_by_key(|answer| batch.op_of(answer.seq));
    let Some(Answer { seq, errno, text }) = first else {
        return if answered { Ok(()) } else { Err(Error::Malformed { doing: "apply a transaction", what: "there is none" }) };
    };
    let index = batch.op_of(seq);
    match (index, Errno::from_raw(errno)) {
        (None, Errno::EPERM) => Err(Error::NoPermission),
        (None, Errno::EOPNOTSUPP) => Err(Error::NotSupported),
        (index, errno) => Err(Error::refused(transaction, index, errno, text.as_deref())),
    }
}

impl Netfilter for Kernel {
    async fn apply(&mut self, transaction: &Transaction) -> Result<(), Error> {
        const DOING: &str = "apply an nftables transaction";
        if transaction.is_empty() {
            return Ok(());
        }
        // All answers to a batch are read before the next one: each may start at the same number.
        let batch = Batch::encode(transaction, 1)?;
        let (batch, answers) = self
            .call(DOING, move |socket| {
                let mut batch = batch;
                let bytes = std::mem::take(&mut batch.bytes);
                let answers = socket.batch(&bytes).map_err(|errno| match errno {
                    Errno::EMSGSIZE => Error::TooLong { bytes: bytes.len() },
                    other => failed(DOING, other),
                })?;
                Ok((batch, answers))
            })
            .await?;
        verdict(transaction, &batch, answers)?;
        self.generation = self.generation.map(|generation| generation.wrapping_add(1));
        Ok(())
    }

    async fn table(&mut self, table: &TableId) -> Result<Option<TableState>, Error> {
        const DOING: &str = "read an nftables table";
        let id = table.clone();
        self.call(DOING, move |socket| read::table(socket, &id).map_err(|errno| failed(DOING, errno))).await
    }

    async fn elements(&mut self, table: &TableId, set: &str) -> Result<Vec<Element>, Error> {
        const DOING: &str = "read the elements of an nftables set";
        let (id, name) = (table.clone(), set.to_owned());
        self.call(DOING, move |socket| match read::elements(socket, &id, &name) {
            Ok(Some(elements)) => Ok(elements),
            Ok(None) => Err(Error::Malformed { doing: DOING, what: "an element without a key, or with data of no known kind" }),
            Err(Errno::ENOENT) => Err(Error::NoSuchSet { table: id, set: name.into() }),
            Err(errno) => Err(failed(DOING, errno)),
        })
        .await
    }

    async fn unwatch(&mut self) -> Result<(), Error> {
        self.monitor = None;
        self.generation = None;
        self.generation = Some(self.generation("ask for the ruleset's generation").await?);
        Ok(())
    }

    async fn watch(&mut self, tables: Vec<TableId>) -> Result<bool, Error> {
        const DOING: &str = "listen to changes of nftables";
        self.monitor = Some(Monitor::open(tables).map_err(|source| Error::Socket { doing: DOING, source })?);
        // Asked after the socket is open: what changes from now on is heard.
        let now = self.generation(DOING).await?;
        Ok(self.generation.take() != Some(now))
    }

    async fn disturbed(&mut self) -> Option<TableId> {
        match &mut self.monitor {
            Some(monitor) => monitor.disturbed(self.port).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_kernel_without_nftables_is_named_as_such() {
        for errno in [Errno::EPROTONOSUPPORT, Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP] {
            let error = failed("open nftables", errno);
            assert!(matches!(error, Error::NotSupported), "{error:?}");
            let text = "this kernel has no nftables: load the module (modprobe nf_tables), or use a kernel with CONFIG_NF_TABLES";
            assert_eq!(error.to_string(), text);
        }
        assert!(matches!(failed("open nftables", Errno::EACCES), Error::NoPermission));
        assert!(matches!(failed("open nftables", Errno::EINVAL), Error::Socket { .. }));
    }

    #[tokio::test]
    async fn after_a_call_that_hangs_the_next_one_waits_for_its_end() {
        let mut kernel = Kernel::new(Duration::from_millis(50));
        let (release, hangs) = mpsc::channel::<()>();
        let first = kernel.call("hang", move |_| Ok(hangs.recv().is_ok())).await;
        assert!(matches!(first, Err(Error::Timeout { doing: "hang", .. })), "{first:?}");
        assert!(matches!(kernel.call("overtake", |_| Ok(())).await, Err(Error::Timeout { doing: "overtake", .. })));
        release.send(()).unwrap();
        while kernel.call("go on", |_| Ok(())).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
