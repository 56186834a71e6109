//! A tree of hashes over the whole log, with which a few hashes prove that an event is in a log of which only the root is known.
//!
//! The leaves are the events in the order of their positions. The tree has the form of RFC 6962 (Certificate Transparency): the
//! left part has the largest power of two of leaves that is smaller than the number of all leaves. The hash is BLAKE3:
//!
//! | node | hash of |
//! |---|---|
//! | a leaf | the byte 0, the hash of the event |
//! | an inner node | the byte 1, the hash of the left part, the hash of the right part |
//! | a tree without leaves | nothing |

use super::event::Hash;

fn leaf(event: Hash) -> Hash {
    let mut bytes = [0; 33];
    bytes[1..].copy_from_slice(&event.0);
    Hash(*blake3::hash(&bytes).as_bytes())
}

fn node(left: Hash, right: Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    Hash(*blake3::hash(&bytes).as_bytes())
}

/// The number of leaves in the left part of a tree with so many leaves, at least two.
const fn left_size(size: usize) -> usize {
    1 << (size - 1).ilog2()
}

/// The root of the tree over these hashes of events.
#[must_use]
pub fn root(events: &[Hash]) -> Hash {
    match events {
        [] => Hash(*blake3::hash(&[]).as_bytes()),
        [event] => leaf(*event),
        _ => {
            let (left, right) = events.split_at(left_size(events.len()));
            node(root(left), root(right))
        }
    }
}

/// The hashes beside the way from the leaf with this index to the root, the lowest first. Empty if there is no such leaf.
#[must_use]
pub fn path(events: &[Hash], index: usize) -> Vec<Hash> {
    if events.len() < 2 || index >= events.len() {
        return Vec::new();
    }
    let (left, right) = events.split_at(left_size(events.len()));
    let (mut path, other) = match index.checked_sub(left.len()) {
        None => (path(left, index), root(right)),
        Some(index) => (path(right, index), root(left)),
    };
    path.push(other);
    path
}

/// The root of a tree with `size` leaves in which the leaf `index` is this event and has this path. `None` if the path is too long
/// or too short, or if the tree has no such leaf.
#[must_use]
pub fn root_of_path(event: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let Some((other, lower)) = path.split_last() else { return (size == 1).then(|| leaf(event)) };
    let left = 1 << size.checked_sub(1)?.checked_ilog2()?;
    if index < left {
        Some(node(root_of_path(event, index, left, lower)?, *other))
    } else {
        Some(node(*other, root_of_path(event, index - left, size - left, lower)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(count: usize) -> Vec<Hash> {
        (0..count).map(|n| Hash(*blake3::hash(&n.to_le_bytes()).as_bytes())).collect()
    }

    #[test]
    fn every_leaf_of_every_small_tree_leads_to_the_root_and_no_other_leaf_does() {
        for size in 1..=70 {
            let events = events(size);
            let root = root(&events);
            for index in 0..size {
                let path = path(&events, index);
                let of_path = |event: Hash, index: usize, size: usize, path: &[Hash]| {
                    root_of_path(event, index as u64, size as u64, path)
                };
                assert_eq!(of_path(events[index], index, size, &path), Some(root), "{index} of {size}");
                assert!(path.len() <= 7);
                let other = Hash([7; 32]);
                assert_ne!(of_path(other, index, size, &path), Some(root));
                for wrong in [index.wrapping_sub(1), index + 1, size, usize::MAX] {
                    assert_ne!(of_path(events[index], wrong, size, &path), Some(root), "{wrong} for {index} of {size}");
                }
                let longer = [path.clone(), vec![other]].concat();
                assert_ne!(of_path(events[index], index, size, &longer), Some(root));
                if let Some((_, shorter)) = path.split_last() {
                    assert_ne!(of_path(events[index], index, size, shorter), Some(root));
                }
            }
        }
    }

    #[test]
    fn trees_with_other_leaves_have_other_roots() {
        let all = events(20);
        let roots: Vec<Hash> = (0..=20).map(|size| root(&all[..size])).collect();
        for (one, first) in roots.iter().enumerate() {
            assert!(roots.iter().enumerate().all(|(other, root)| one == other || root != first));
        }
        let mut swapped = all.clone();
        swapped.swap(3, 4);
        assert_ne!(root(&swapped), root(&all));
    }

    #[test]
    fn an_inner_node_is_not_taken_for_an_event() {
        let events = events(2);
        let inner = root(&events);
        assert_ne!(root(&[inner]), inner);
    }
}
