//! Waiting for operations.
//!
//! None of these cancels anything: operations that are not done when the wait ends, by a timeout or because
//! others were, go on, and can be waited for again. No result is lost when a wait is dropped.

use super::next::Watching;
use super::table::{Table, table};
use super::types::{QResult, Qt, errno};
use crate::time::timeout;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Waits for one operation.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::pdpix;
///
/// use std::time::Duration;
/// let token = pdpix::pop(pdpix::queue()?, None)?;
/// let error = pdpix::wait(token, Some(Duration::from_millis(1))).await.unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// `EINVAL` if the token is not that of an operation, or its result has been given before; `EBUSY` if
/// somebody else waits for it by its token; `ETIMEDOUT` if it is not done in time. What an operation itself
/// fails with is in its result.
pub async fn wait(qt: Qt, limit: Option<Duration>) -> io::Result<QResult> {
    wait_any(&[qt], limit).await.map(|(_, result)| result)
}

/// Waits until one of the operations is done, and gives its index and result. When several are, the first of
/// them in the list is taken.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::buffer::Buffer;
/// use demikernel_runtime::pdpix;
///
/// let (idle, used) = (pdpix::queue()?, pdpix::queue()?);
/// let tokens = [pdpix::pop(idle, None)?, pdpix::pop(used, None)?];
/// pdpix::push(used, Buffer::from("x"))?;
/// let (index, _) = pdpix::wait_any(&tokens, None).await?;
/// assert_eq!(index, 1);
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// As [`wait`], and then for no token a result is given; `EINVAL` if there are none.
pub async fn wait_any(qts: &[Qt], limit: Option<Duration>) -> io::Result<(usize, QResult)> {
    let claims = Claims::new(qts)?;
    if qts.is_empty() {
        return Err(errno(libc::EINVAL));
    }
    within(limit, |cx| {
        let done = qts.iter().position(|&qt| claims.table.poll(qt, cx));
        done.map_or(Poll::Pending, |index| Poll::Ready((index, claims.table.take(qts[index]))))
    })
    .await
}

/// Waits until all the operations are done, and gives their results in the order of the list.
///
/// # Errors
/// As [`wait`], and then for no token a result is given.
pub async fn wait_all(qts: &[Qt], limit: Option<Duration>) -> io::Result<Vec<QResult>> {
    let claims = Claims::new(qts)?;
    let mut first_pending = 0;
    within(limit, |cx| {
        // Those before have ended, and wait to be taken.
        while first_pending < qts.len() && claims.table.poll(qts[first_pending], cx) {
            first_pending += 1;
        }
        if first_pending < qts.len() { Poll::Pending } else { Poll::Ready(()) }
    })
    .await?;
    Ok(qts.iter().map(|&qt| claims.table.take(qt)).collect())
}

/// Waits until at least one of all operations of the runtime is done that nobody waits for by its token, then
/// gives the results of those that are, but no more than `n`. Also operations that are started meanwhile are
/// waited for.
///
/// What this costs does not depend on how many are under way.
///
/// # Errors
/// `EINVAL` if `n` is 0; `EBUSY` if somebody else waits in this way; `ETIMEDOUT`.
pub async fn wait_next_n(n: usize, limit: Option<Duration>) -> io::Result<Vec<QResult>> {
    if n == 0 {
        return Err(errno(libc::EINVAL));
    }
    let table = table();
    let watching = table.watch.begin(|| table.tokens()).ok_or_else(|| errno(libc::EBUSY))?;
    let mut results = Vec::new();
    within(limit, |cx| {
        collect(&table, &watching, n, &mut results);
        if !results.is_empty() {
            return Poll::Ready(());
        }
        if !watching.sleep(cx.waker()) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await?;
    Ok(results)
}

/// Looks at the operations that may be done.
fn collect(table: &Table, watching: &Watching<'_>, n: usize, results: &mut Vec<QResult>) {
    while results.len() < n
        && let Some(qt) = watching.next()
    {
        if !table.is_free(qt) {
            continue;
        }
        let waker = watching.waker(qt);
        if table.poll(qt, &mut Context::from_waker(&waker)) {
            results.push(table.take(qt));
        }
    }
}

/// Polls until it is ready, or for so long.
async fn within<T>(limit: Option<Duration>, poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> io::Result<T> {
    let polling = poll_fn(poll);
    match limit {
        None => Ok(polling.await),
        Some(limit) => timeout(limit, polling).await.map_err(|_| errno(libc::ETIMEDOUT)),
    }
}

/// The tokens that somebody waits for.
struct Claims<'a> {
    table: Rc<Table>,
    qts: &'a [Qt],
}

impl<'a> Claims<'a> {
    fn new(qts: &'a [Qt]) -> io::Result<Claims<'a>> {
        let mut claims = Claims { table: table(), qts: &[] };
        for (index, &qt) in qts.iter().enumerate() {
            claims.table.claim(qt)?;
            claims.qts = &qts[..=index];
        }
        Ok(claims)
    }
}

impl Drop for Claims<'_> {
    fn drop(&mut self) {
        for &qt in self.qts {
            self.table.release(qt);
        }
        self.table.watch.tidy(self.table.under_way(), |qt| self.table.is_free(qt));
    }
}
