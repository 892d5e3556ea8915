//! The YAML file: `document` (its shape) -> `check` (every rule, all mistakes at once) -> `settings` (what the program uses).
//!
//! Pure: text in, settings or mistakes out. Reading the file is `cli`'s work.

pub mod settings;
