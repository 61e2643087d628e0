//! The kernel's nftables: sends transactions and reads back what stands, each with a deadline.

use std::time::Duration;

use nix::errno::Errno;

use super::backend::{Netfilter, TableState};
use super::error::Error;
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
}

impl Kernel {
    /// Opens nftables. Fails with [`Error::NoPermission`] or [`Error::NotSupported`] where the first transaction would.
    pub async fn open() -> Result<Self, Error> {
        const DOING: &str = "open nftables";
        let mut kernel = Self { socket: Some(open()?) };
        kernel.call(DOING, |socket| read::generation(socket).map_err(|errno| failed(DOING, errno))).await?;
        Ok(kernel)
    }

    /// Runs a blocking call beside the async tasks, with the deadline.
    async fn call<T: Send + 'static>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&mut Socket) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => open()?,
        };
        let task = tokio::task::spawn_blocking(move || {
            let result = work(&mut socket);
            (socket, result)
        });
        match tokio::time::timeout(PATIENCE, task).await {
            Ok(Ok((socket, result))) => {
                // After a failure answers may still wait in the socket: the next call gets a new one.
                self.socket = result.is_ok().then_some(socket);
                result
            }
            Ok(Err(join)) => Err(Error::Socket { doing, source: std::io::Error::other(join) }),
            Err(_) => Err(Error::Timeout { doing, seconds: PATIENCE.as_secs() }),
        }
    }
}

fn open() -> Result<Socket, Error> {
    Socket::open(PATIENCE).map_err(|errno| failed("open a netlink socket", errno))
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
        verdict(transaction, &batch, answers)
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
}
