//! Exit codes of every command, for scripts.

/// It failed at run time.
pub(super) const FAILED: u8 = 1;
/// The command line is wrong.
pub(super) const WRONG_COMMAND_LINE: u8 = 64;
/// No balancer answers.
pub(super) const NO_BALANCER: u8 = 69;
/// The configuration is to be mended.
pub(super) const BAD_CONFIGURATION: u8 = 78;
