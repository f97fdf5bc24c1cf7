//! What runs inside a virtual machine, seen from outside.
