//! Columns of a group of packed rows.

use crate::views::bytes::{Reader, Writer};

/// Numbers of which some may be absent. Usually they are near each other; then each takes four bytes.
#[derive(Debug)]
pub(super) enum Numbers {
    /// No number is present.
    Absent,
    /// The distance of each number from `base`; [`u32::MAX`] if the number is absent.
    Near { base: i64, distances: Box<[u32]> },
    /// The numbers themselves; [`i64::MIN`] if the number is absent.
    Far(Box<[i64]>),
}

impl Numbers {
    /// A column of these numbers. None of them is [`i64::MIN`].
    pub(super) fn new(numbers: &[Option<i64>]) -> Self {
        let Some(base) = numbers.iter().flatten().min().copied() else { return Self::Absent };
        let distance = |number: i64| u32::try_from(number.abs_diff(base)).ok().filter(|distance| *distance < u32::MAX);
        if numbers.iter().flatten().all(|number| distance(*number).is_some()) {
            let distances = numbers.iter().map(|number| number.and_then(distance).unwrap_or(u32::MAX)).collect();
            return Self::Near { base, distances };
        }
        Self::Far(numbers.iter().map(|number| number.unwrap_or(i64::MIN)).collect())
    }

    pub(super) fn get(&self, index: usize) -> Option<i64> {
        match self {
            Self::Absent => None,
            Self::Near { base, distances } => {
                let distance = distances.get(index).filter(|distance| **distance < u32::MAX)?;
                Some(base.wrapping_add(i64::from(*distance)))
            }
            Self::Far(numbers) => numbers.get(index).copied().filter(|number| *number > i64::MIN),
        }
    }
}

/// Indexes of rows in a block, below 512.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::views) struct IndexSet([u64; 8]);

impl IndexSet {
    pub(in crate::views) const ALL: Self = Self([u64::MAX; 8]);

    pub(in crate::views) fn has(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word & 1 << (index % 64) != 0)
    }

    pub(in crate::views) fn insert(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    pub(in crate::views) fn remove(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word &= !(1 << (index % 64));
        }
    }

    pub(in crate::views) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(in crate::views) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// How many indexes of the set are below this one.
    pub(in crate::views) fn rank(&self, index: usize) -> usize {
        let whole: u32 = self.0.iter().take(index / 64).map(|word| word.count_ones()).sum();
        let below = (1 << (index % 64)) - 1;
        let part = self.0.get(index / 64).map_or(0, |word| (word & below).count_ones());
        (whole + part) as usize
    }

    pub(in crate::views) fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    pub(in crate::views) fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    pub(in crate::views) fn put(self, writer: &mut Writer) {
        self.0.iter().for_each(|word| writer.put_bytes(&word.to_le_bytes()));
    }

    pub(in crate::views) fn take(reader: &mut Reader) -> Option<Self> {
        let mut set = Self::default();
        for word in &mut set.0 {
            *word = u64::from_le_bytes(reader.take_bytes(8)?.try_into().ok()?);
        }
        Some(set)
    }

    /// The indexes in ascending order.
    pub(in crate::views) fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(word, bits)| {
            std::iter::successors(Some(bits).filter(|bits| *bits != 0), |bits| {
                Some(bits & (bits - 1)).filter(|bits| *bits != 0)
            })
            .map(move |bits| word * 64 + bits.trailing_zeros() as usize)
        })
    }
}

impl FromIterator<usize> for IndexSet {
    fn from_iter<T: IntoIterator<Item = usize>>(indexes: T) -> Self {
        let mut set = Self::default();
        indexes.into_iter().for_each(|index| set.insert(index));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_numbers_take_four_bytes_and_all_are_read_as_they_were_written() {
        for (numbers, is_near) in [
            (vec![Some(7), None, Some(5), Some(5 + i64::from(u32::MAX) - 1)], true),
            (vec![Some(5), Some(5 + i64::from(u32::MAX))], false),
            (vec![Some(i64::MIN + 1), None, Some(i64::MAX)], false),
            (vec![Some(-3), Some(3)], true),
        ] {
            let column = Numbers::new(&numbers);
            assert_eq!(matches!(column, Numbers::Near { .. }), is_near, "{numbers:?}");
            let read: Vec<_> = (0..numbers.len()).map(|index| column.get(index)).collect();
            assert_eq!(read, numbers);
            assert_eq!(column.get(numbers.len()), None);
        }
        assert!(matches!(Numbers::new(&[None, None]), Numbers::Absent));
    }

    #[test]
    fn a_set_of_indexes_counts_those_below_and_gives_them_in_order() {
        let indexes = [0, 1, 63, 64, 130, 511];
        let mut set: IndexSet = indexes.into_iter().collect();
        assert!(set.iter().eq(indexes));
        assert_eq!([0, 1, 63, 64, 65, 511].map(|index| set.rank(index)), [0, 1, 2, 3, 4, 5]);
        assert!(set.has(130) && !set.has(131) && !set.has(512));
        set.remove(130);
        assert!(!set.has(130) && set.len() == 5 && !set.is_empty());
        assert_eq!(set.and(IndexSet::ALL), set);
        assert_eq!(set.or(IndexSet::ALL), IndexSet::ALL);
        assert!(IndexSet::ALL.iter().eq(0..512) && IndexSet::ALL.rank(511) == 511);
    }
}
