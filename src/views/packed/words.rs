//! Search for words in the texts of packed rows. Upper and lower case make no difference.
//!
//! Each group of packed rows has a filter: one bit for each hash of three bytes in a row (a trigram) of its texts in lower
//! case. A word whose trigrams are not all in the filter is in none of the texts. So a search reads only few groups, unless
//! the word is in many of them or its trigrams are.
//!
//! Memory: 2 to 16 bytes a row for 512 rows, depending on how many different trigrams their texts have.

use memchr::memmem::Finder;

use super::{IndexSet, SEPARATOR};
use crate::views::bytes::{Reader, Writer};

/// The number of bits of the largest filter, and of the smallest one.
const BITS_MAX: usize = 1 << 16;
const BITS_MIN: usize = 64;

/// Writes the text in lower case to `out`, as [`str::to_lowercase`] does, but faster.
pub(super) fn to_lowercase(text: &str, out: &mut String) {
    out.clear();
    if text.is_ascii() {
        out.push_str(text);
        out.make_ascii_lowercase();
        return;
    }
    // The lower case of this letter depends on the letters beside it.
    if text.contains('Σ') {
        out.push_str(&text.to_lowercase());
        return;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let (plain, other) = rest.split_at(ascii_length(rest.as_bytes()));
        let start = out.len();
        out.push_str(plain);
        out[start..].make_ascii_lowercase();
        let end = other.bytes().position(|byte| byte.is_ascii()).unwrap_or(other.len());
        let (letters, next) = other.split_at(end);
        out.extend(letters.chars().flat_map(char::to_lowercase));
        rest = next;
    }
}

/// How many of the first bytes are ASCII. It reads many bytes at once.
fn ascii_length(bytes: &[u8]) -> usize {
    let whole: usize = bytes.chunks(32).take_while(|chunk| chunk.is_ascii()).map(<[u8]>::len).sum();
    whole + bytes[whole..].iter().take_while(|byte| byte.is_ascii()).count()
}

/// Which trigrams the texts of a group contain: a bit for each hash.
#[derive(Debug)]
pub(super) struct Words {
    bits: Box<[u64]>,
}

/// The hashes of the trigrams of the text, each below [`BITS_MAX`].
fn trigrams(text: &str) -> impl Iterator<Item = usize> {
    let number = |number: &mut u32, byte: u8| {
        *number = (*number << 8 | u32::from(byte)) & 0x00ff_ffff;
        Some((number.wrapping_mul(0x9E37_79B1) >> 16) as usize)
    };
    text.bytes().scan(0, number).skip(2)
}

impl Words {
    /// The filter of these texts.
    pub(super) fn of(texts: &str) -> Self {
        let mut lowered = String::with_capacity(texts.len());
        to_lowercase(texts, &mut lowered);
        let mut bits = vec![0_u64; BITS_MAX / 64];
        for hash in trigrams(&lowered) {
            bits[hash / 64] |= 1 << (hash % 64);
        }
        // The filter of half the length has a bit if one of the halves has it. It is halved while it stays mostly empty.
        let mut ones: usize = bits.iter().map(|word| word.count_ones() as usize).sum();
        while bits.len() * 64 > BITS_MIN && ones * 8 <= bits.len() * 64 {
            let half = bits.split_off(bits.len() / 2);
            bits.iter_mut().zip(half).for_each(|(word, other)| *word |= other);
            ones = bits.iter().map(|word| word.count_ones() as usize).sum();
        }
        Self { bits: bits.into() }
    }

    pub(super) fn put(&self, writer: &mut Writer) {
        writer.put(self.bits.len() as u64);
        self.bits.iter().for_each(|word| writer.put_bytes(&word.to_le_bytes()));
    }

    pub(super) fn take(reader: &mut Reader) -> Option<Self> {
        // `may_contain` needs a power of two.
        let count = reader.take_len().filter(|count| count.is_power_of_two() && *count <= BITS_MAX / 64)?;
        let mut word = || reader.take_bytes(8)?.try_into().ok().map(u64::from_le_bytes);
        let bits: Option<Box<[u64]>> = (0..count).map(|_| word()).collect();
        bits.map(|bits| Self { bits })
    }

    /// Whether the texts may contain all words. False only if they certainly don't.
    pub(super) fn may_contain(&self, search: &WordSearch) -> bool {
        let mask = self.bits.len() * 64 - 1;
        search.trigrams.iter().all(|hash| {
            let hash = hash & mask;
            self.bits.get(hash / 64).is_some_and(|word| word & 1 << (hash % 64) != 0)
        })
    }
}

/// The words that a query searches for.
#[derive(Debug)]
pub(in crate::views) struct WordSearch {
    finders: Vec<Finder<'static>>,
    /// The hashes of the trigrams of all words.
    trigrams: Vec<usize>,
    /// A word contains the separator, so that it may seem to be in a text although it is in two.
    has_separator: bool,
}

impl WordSearch {
    /// A search for texts that contain all of these words.
    pub(in crate::views) fn new(words: &[String]) -> Self {
        let words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
        let trigrams = words.iter().flat_map(|word| trigrams(word)).collect();
        Self {
            finders: words.iter().map(|word| Finder::new(word).into_owned()).collect(),
            trigrams,
            has_separator: words.iter().any(|word| word.contains(SEPARATOR)),
        }
    }

    /// Whether the words have to be looked for in each found row again.
    pub(in crate::views) const fn is_inexact(&self) -> bool {
        self.has_separator
    }

    /// The numbers of the texts that contain all words. `starts` are the places at which the texts begin.
    pub(super) fn find_all(&self, lowered: &str, starts: &[u32]) -> IndexSet {
        let mut found = IndexSet::ALL;
        for finder in &self.finders {
            found = found.and(find_one(finder, lowered.as_bytes(), starts));
            if found.is_empty() {
                break;
            }
        }
        found.and((0..starts.len()).collect())
    }
}

/// The numbers of the texts that contain the word.
fn find_one(finder: &Finder, lowered: &[u8], starts: &[u32]) -> IndexSet {
    let mut found = IndexSet::default();
    let mut from = 0;
    while let Some(at) = lowered.get(from..).and_then(|rest| finder.find(rest)) {
        let next = starts.partition_point(|start| *start as usize <= from + at);
        found.insert(next.saturating_sub(1));
        let Some(start) = starts.get(next) else { break };
        from = *start as usize;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(text: &str) -> String {
        let mut out = "old".to_owned();
        to_lowercase(text, &mut out);
        out
    }

    #[test]
    fn lower_case_is_that_of_the_standard_library_for_every_letter_and_between_letters() {
        let all: String = ('\0'..=char::MAX).collect();
        assert!(lowered(&all) == all.to_lowercase());
        for text in ["", "a", "É", "STRASSE straße", "ΟΔΥΣΣΕΥΣ Σ ΑΣ.", "İstanbul", "K\u{212a}k", "aÉbÉ"]
        {
            assert_eq!(lowered(text), text.to_lowercase(), "{text}");
        }
        for letter in all.chars().filter(|letter| *letter != 'Σ') {
            assert_eq!(lowered(&format!("a{letter}B")), format!("a{letter}B").to_lowercase());
        }
    }

    #[test]
    fn texts_with_separators_between_them_have_the_lower_case_of_each_text() {
        let texts = ["ΑΣ", "Σ", "ΣΑ", "A", ""];
        let joined: String = texts.iter().flat_map(|text| [*text, "\0"]).collect();
        let each: String = texts.iter().flat_map(|text| [text.to_lowercase(), "\0".to_owned()]).collect();
        assert_eq!(lowered(&joined), each);
    }

    fn search(words: &[&str]) -> WordSearch {
        WordSearch::new(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_filter_lets_every_contained_word_pass_and_few_others() {
        let texts: Vec<String> = (0..5000).map(|n| format!("Task {n:04} was DONE\0")).collect();
        let text = texts.concat();
        let words = Words::of(&text);
        for word in ["task", "4999", "was done", "WAS", "0", "", "sk 1234 wa", "\0"] {
            assert!(words.may_contain(&search(&[word])), "{word}");
        }
        for word in ["zugspitze", "export", "tasks", "doner"] {
            assert!(!words.may_contain(&search(&[word])), "{word}");
            assert!(!words.may_contain(&search(&["task", word])));
        }
        assert!(words.bits.len() < BITS_MAX / 64, "{} bits for some 1,100 trigrams", words.bits.len() * 64);
    }

    #[test]
    fn the_filter_of_many_different_trigrams_is_as_large_as_allowed_and_exact_enough() {
        let mut number = 1_u32;
        let text: String = (0..30_000)
            .map(|_| {
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                char::from(b'a' + u8::try_from((number >> 16) % 26).unwrap())
            })
            .collect();
        let words = Words::of(&text);
        assert_eq!(words.bits.len() * 64, BITS_MAX);
        assert!(!words.may_contain(&search(&["0123456789"])));
    }

    #[test]
    fn a_search_finds_each_text_that_contains_all_words() {
        let lowered = "one two\0two three\0three\0";
        let starts = [0, 8, 18];
        let found = |words: &[&str]| search(words).find_all(lowered, &starts).iter().collect::<Vec<_>>();
        assert_eq!(found(&["two"]), [0, 1]);
        assert_eq!(found(&["THREE"]), [1, 2]);
        assert_eq!(found(&["two", "three"]), [1]);
        assert_eq!(found(&["two", "four"]), [0; 0]);
        assert_eq!(found(&[""]), [0, 1, 2]);
        assert!(search(&["a\0b"]).is_inexact() && !search(&["a"]).is_inexact());
    }
}
