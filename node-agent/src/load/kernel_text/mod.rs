//! The kernel's own text, parsed. Nothing here touches a file, and nothing panics whatever the text is: a parser
//! yields `None` for what it does not understand.

pub(super) mod cgroup;
pub(super) mod proc;
pub(super) mod task;

#[cfg(test)]
mod fuzz;
