//! The cellar: the only home of raw system calls. Knows nothing of the rooms above.

pub mod probe;
