//! Orders to the publisher: marks (drain, down) and weights of backends, from whoever steers the balancer.

use tokio::sync::oneshot;

use super::control::Control;
use crate::backend_state::Mark;
use crate::discovery::Request;
use crate::publisher::{NoSuch, Order, Whom};

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// Nobody has that name.
    #[error(transparent)]
    NoSuch(#[from] NoSuch),
    /// The program is on its way out.
    #[error("the program is stopping")]
    Stopping,
}

impl Control {
    /// Asks the sources of a pool, or of all, at once; false: it has none, or the program stops.
    pub(super) async fn refresh(&self, pool: Option<String>) -> bool {
        let (reply, any) = oneshot::channel();
        let request = Request::Refresh(pool, reply);
        self.discovery.requests.send(request).await.is_ok() && any.await.unwrap_or(false)
    }

    /// Says something of a backend, or takes back what was said. `by`: who says so, for people.
    pub(super) async fn mark(&self, whom: Whom, mark: Option<Mark>, by: &str) -> Result<(), OrderError> {
        let by = by.into();
        self.order(|reply| Order::Mark { whom, mark, by, reply }).await
    }

    /// Sets the weight of a backend; `None`: the file's again.
    pub(super) async fn set_weight(
        &self,
        whom: Whom,
        weight: Option<u16>,
        by: &str,
    ) -> Result<(), OrderError> {
        let by = by.into();
        self.order(|reply| Order::Weight { whom, weight, by, reply }).await
    }

    /// Forgets which generations of a pool's primaries were ever believed.
    pub(super) async fn forget(&self, pool: String, by: &str) -> Result<(), OrderError> {
        let by = by.into();
        self.order(|reply| Order::Forget { pool, by, reply }).await
    }

    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<(), NoSuch>>) -> Order,
    ) -> Result<(), OrderError> {
        let (reply, done) = oneshot::channel();
        self.orders.send(order(reply)).await.map_err(|_| OrderError::Stopping)?;
        Ok(done.await.map_err(|_| OrderError::Stopping)??)
    }
}
