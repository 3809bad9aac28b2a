//! How long the store's calls take, told to whoever has asked to know. It never changes what a call does.

use portcullis_tenancy::StoreError;
use portcullis_tenancy::store::Result;
use std::any::type_name;
use std::future::Future;
use std::time::{Duration, Instant};

/// One call of the store that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The function that carried it out, `ledger::account::one`.
    pub name: &'static str,
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// Whether the store failed. That something is taken, missing or changed is an answer like any other.
    pub failed: bool,
}

/// Told of each call that somebody's errand at the store makes.
pub type Watch = Box<dyn Fn(&Call) + Send + Sync>;
/// Asked where an errand begins, in the task that sends it.
pub type Observer = Box<dyn Fn() -> Watch + Send + Sync>;

tokio::task_local! {
    static WATCH: Option<Watch>;
}

/// Carries an errand out, its calls being watched.
pub(crate) async fn watched<F: Future>(watch: Option<Watch>, errand: F) -> F::Output {
    WATCH.scope(watch, errand).await
}

/// Carries one call out, and tells who watches, if somebody does.
pub(crate) async fn told<T, F: Future<Output = Result<T>>>(name: &'static str, call: F) -> Result<T> {
    let began = Instant::now();
    let result = call.await;
    let _ = WATCH.try_with(|watch| {
        if let Some(watch) = watch {
            let failed = matches!(result, Err(StoreError::Failed(_) | StoreError::Unreadable(_)));
            watch(&Call { name, began, took: began.elapsed(), failed });
        }
    });
    result
}

/// The name of the function whose future this is, without this crate's. It is for people to read: nothing depends on it.
pub(crate) fn name_of<F>() -> &'static str {
    let whole = type_name::<F>();
    let whole = whole.split_once("::{{closure}}").map_or(whole, |(name, _)| name);
    let whole = whole.split_once('<').map_or(whole, |(name, _)| name);
    whole.split_once("::").map_or(whole, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    async fn answers(answer: Result<u8>) -> Result<u8> {
        answer
    }

    fn named<F: Future>(_: &F) -> &'static str {
        name_of::<F>()
    }

    #[tokio::test]
    async fn a_call_is_told_by_name_with_how_it_ended() {
        let seen: Arc<Mutex<Vec<(&str, bool)>>> = Arc::default();
        let watch: Watch = Box::new({
            let seen = Arc::clone(&seen);
            move |call| seen.lock().unwrap().push((call.name, call.failed))
        });
        watched(Some(watch), async {
            for answer in [Ok(1), Err(StoreError::Missing), Err(StoreError::Unreadable("x".to_owned()))] {
                let call = answers(answer);
                let _ = told(named(&call), call).await;
            }
        })
        .await;
        let name = "watch::tests::answers";
        assert_eq!(*seen.lock().unwrap(), [(name, false), (name, false), (name, true)]);
    }

    #[tokio::test]
    async fn a_call_that_nobody_watches_is_carried_out_all_the_same() {
        assert_eq!(told("alone", answers(Ok(7))).await.unwrap(), 7);
        assert_eq!(watched(None, told("unwatched", answers(Ok(8)))).await.unwrap(), 8);
    }
}
