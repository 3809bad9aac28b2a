use super::*;
use crate::config::RedisPlace;

/// A store that nobody listens for.
fn away() -> Shared {
    let place = RedisPlace::Unix("/nowhere/redis.sock".into());
    let timeout = Duration::from_millis(50);
    let config = SharedLimits { place, database: 0, username: None, password: None, ca: None, timeout };
    Shared::new(&config, "test").unwrap()
}

#[tokio::test]
async fn while_the_store_is_away_there_are_as_many_nodes_as_anybody_has_told_of() {
    let shared = away();
    assert_eq!(shared.nodes(), 1);
    shared.heard.store(2, Ordering::Relaxed);
    assert_eq!(shared.nodes(), 2);
    shared.saw(5);
    assert_eq!(shared.nodes(), 5, "three were started since");
    shared.saw(1);
    assert_eq!(shared.nodes(), 2);
}
