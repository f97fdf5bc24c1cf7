//! What the Kubernetes scheduler would answer.
