//! The JSON Schemas that the program prints; a test in `json.rs` compares them with the types.

/// Of `placer advise --json`.
pub const ADVISE: &str = include_str!("schema/advise.json");
/// Of `placer launch --json`.
pub const LAUNCH: &str = include_str!("schema/launch.json");
/// Of `placer advise --together --json`.
pub const TOGETHER: &str = include_str!("schema/together.json");
/// Of `placer fit --json`.
pub const FIT: &str = include_str!("schema/fit.json");
/// Of `placer show --json`.
pub const SHOW: &str = include_str!("schema/show.json");
/// Of `placer replay --json`.
pub const REPLAY: &str = include_str!("schema/replay.json");
/// Of `placer balance --apply --json` and `--undo --json`.
pub const BALANCE: &str = include_str!("schema/balance.json");
/// Of `placer replay --manage --json`.
pub const MANAGE: &str = include_str!("schema/manage.json");
