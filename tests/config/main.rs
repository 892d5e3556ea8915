//! The configuration as users meet it: the files we ship, the mistakes they make, and files that mean harm.

mod files;
mod foreign;
mod hostile;
mod mistakes;
mod secrets;
mod several;
mod variables;
