//! Search for words: the same tasks are found in packed rows and in others, and a rare word reads few rows.

use std::borrow::Cow;

use taskbell::views::{Filter, Order, PageRequest, Row, RowBudget, Views};

use super::history::{Log, cancel, fail, plain, start, succeed};

const TEXTS: [&str; 12] = [
    "Weekly REPORT for Zürich",
    "STRASSE und Straße",
    "ΟΔΥΣΣΕΥΣ",
    "ΑΣ ΣΑ Σ",
    "İstanbul",
    "\u{212a}elvin K",
    "a-b",
    "-",
    "日本語のタスク",
    "ﬁne ﬀ",
    "ÀÉÎ õü",
    "...dots",
];

/// Views in which each text is a title, a message and an error.
fn views() -> Views {
    let (mut log, mut views) = (Log::default(), Views::default());
    for (n, text) in TEXTS.iter().cycle().take(700).enumerate() {
        let id = log.create(plain("ann", if n % 3 == 0 { text } else { "title" }), "ann");
        log.execute(id, &start("w"), "w").unwrap();
        let end = if n % 3 == 1 { succeed(1, text) } else { fail(1, text, false) };
        log.execute(id, &end, "w").unwrap();
    }
    log.events.iter().for_each(|recorded| drop(views.apply(recorded)));
    views
}

/// All parts of the texts with one to five letters, and the texts themselves.
fn parts() -> Vec<String> {
    let mut parts: Vec<String> = TEXTS.map(str::to_owned).to_vec();
    for text in TEXTS {
        let letters: Vec<char> = text.chars().collect();
        for length in 1..=5 {
            parts.extend(letters.windows(length).map(|part| part.iter().collect::<String>()));
        }
    }
    parts.extend(parts.clone().iter().map(|part| part.to_uppercase()));
    parts.extend(["absent", "zz", "σ", "ς", "ss", "k", "ff", "b\0c", "\0", "e\0", "title\0a"].map(str::to_owned));
    parts
}

#[test]
fn a_word_is_found_in_packed_rows_exactly_if_it_is_in_a_text_in_lower_case() {
    let mut views = views();
    assert_eq!(views.packed_rows(), 512);
    views.pack();
    let rows: Vec<_> = views.rows().map(Cow::into_owned).collect();
    let all = PageRequest { order: Order::Asc, limit: 1000, cursor: None };
    for word in parts() {
        let filter = Filter { q: vec![word.clone()], ..Filter::default() };
        let expected: Vec<_> = rows.iter().filter(|row| filter.matches(row)).map(Row::id).collect();
        for page in [views.page(&filter, &all), views.snapshot().page(&filter, &all)] {
            let found: Vec<_> = page.unwrap().items.iter().map(Row::id).collect();
            assert_eq!(found, expected, "{word:?}");
        }
    }
}

#[test]
fn a_rare_word_reads_the_rows_that_contain_it_and_those_that_are_not_packed() {
    let (mut log, mut views) = (Log::default(), Views::default());
    for n in 0..5 * 512 {
        let title = if n == 700 { "Zugspitze".to_owned() } else { format!("task {n}") };
        let id = log.create(plain("ann", &title), "ann");
        log.execute(id, &cancel(None), "ann").unwrap();
    }
    log.create(plain("ann", "open"), "ann");
    log.events.iter().for_each(|recorded| drop(views.apply(recorded)));
    let rows_read = |word: &str| {
        let (budget, filter) = (RowBudget::new(1_000_000), Filter { q: Filter::words(word), ..Filter::default() });
        let page = views.page_within(&filter, &PageRequest { limit: 9, ..PageRequest::default() }, &budget).unwrap();
        (page.unwrap().total, budget.rows_read())
    };
    assert_eq!(rows_read("zugSPITZE"), (1, 3), "the found row, the unpacked one, and the found one for the page");
    assert_eq!(rows_read("matterhorn"), (0, 1));
    assert_eq!(rows_read("zz"), (0, 1));
    let found = (0..5 * 512).filter(|n| n.to_string().contains("12")).count();
    assert_eq!(rows_read("task 12"), (found as u64, found + 1 + 10));
}
