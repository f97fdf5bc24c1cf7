//! What VMs get of a node that has less than they want.

/// Shares a node's cores among those who want them: all get what they want, or, when that is more than there is,
/// everybody the same part of it, as equal weights of CPU shares work out among VMs that all want more.
///
/// ```text
/// wants 2 + 4 + 2 of 4 cores → gets 1 + 2 + 1
/// ```
#[must_use]
pub fn share_capacity(wanted: &[f64], capacity: f64) -> Vec<f64> {
    let total: f64 = wanted.iter().sum();
    if total <= capacity {
        return wanted.to_vec();
    }
    let part = capacity.max(0.0) / total;
    wanted.iter().map(|wants| wants * part).collect()
}

#[cfg(test)]
mod tests {
    use super::share_capacity;

    #[test]
    fn what_there_is_is_shared_in_proportion_and_never_exceeded() {
        assert_eq!(share_capacity(&[1.0, 2.0], 4.0), [1.0, 2.0]);
        assert_eq!(share_capacity(&[2.0, 4.0, 2.0], 4.0), [1.0, 2.0, 1.0]);
        assert_eq!(share_capacity(&[2.0], 0.0), [0.0]);
        assert_eq!(share_capacity(&[], 4.0), [0.0; 0]);
    }
}
