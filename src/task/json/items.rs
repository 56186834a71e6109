//! The items of a list inside a body, each judged by itself.

use super::fault::Fault;
use super::scan::{Limits, Scanner};

/// The items of the list under `key` in the object `text`, in order: the text of each, or why it is refused. None where the
/// text is no object with that list alone. Of a longer list than the limits say, one item more than they say.
///
/// A key that an item has twice refuses the item, with a pointer relative to it. Only the values are limited here: the
/// `depth` of an item is for its reader to judge.
///
/// # Errors
/// A fault of the whole text: it is no JSON, repeats a key outside of the items, or has too many values.
pub fn items<'t>(text: &'t str, key: &str, limits: Limits) -> Result<Option<Vec<Result<&'t str, Fault>>>, Fault> {
    let mut scanner = Scanner::new(text, limits);
    let mut found = None;
    scanner.begin()?;
    while scanner.depth() > 0 {
        scanner.step()?;
        if scanner.depth() == 2 && scanner.has_opened_list(key) {
            found = Some(read_items(&mut scanner, limits.items)?);
        }
        scanner.take_repeated().map_or(Ok(()), Err)?;
    }
    let is_alone = scanner.closed_count() == 1;
    scanner.end()?;
    Ok(found.filter(|_| is_alone))
}

/// Reads the list that has just been opened to its end.
fn read_items<'t>(scanner: &mut Scanner<'t>, items_max: usize) -> Result<Vec<Result<&'t str, Fault>>, Fault> {
    let depth = scanner.depth();
    let mut items = Vec::new();
    loop {
        scanner.step()?;
        if scanner.depth() < depth {
            return Ok(items);
        }
        let start = scanner.value_start();
        scanner.pointers_from = depth;
        while scanner.depth() > depth {
            scanner.step()?;
        }
        scanner.pointers_from = 0;
        let item = scanner.take_repeated().map_or_else(|| Ok(scanner.text_from(start)), Err);
        if items.len() <= items_max {
            items.push(item);
        }
    }
}
