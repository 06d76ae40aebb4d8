//! What a configuration of openraft begins with.

use openraft::Config;

/// openraft's defaults, but that a node which was the leader when it ended is none when it is back.
///
/// It would be one again at once (`enable_leader_restore`), with a state that its log brings up to what it knew to be
/// committed: what it has acknowledged last is in the log, but it does not know that most others have it as well. Until these
/// have told it so, a linearizable read would miss that. After an election its successor, or it, knows. The other way out is a
/// flush of what is committed before each answer.
///
/// ```
/// use demikernel_raft::openraft::Config;
///
/// let config = Config { heartbeat_interval: 100, ..demikernel_raft::config() };
/// assert_eq!(config.enable_leader_restore, Some(false));
/// ```
pub fn config() -> Config {
    Config { enable_leader_restore: Some(false), ..Config::default() }
}
