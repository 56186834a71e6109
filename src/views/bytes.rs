//! Writes values one after the other into bytes, and reads them in the same order.
//!
//! A number takes one byte for each 7 bits that it needs. A text is its length and its bytes.

// Where a value may be absent, the outer `None` says that it can't be read.
#![allow(clippy::option_option)]

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::task::{TaskId, Timestamp};

/// Writes values.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn put(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
            number >>= 7;
        }
        self.0.push(u8::try_from(number).unwrap_or_default());
    }

    /// Writes a number that may be negative. Numbers near zero are short.
    pub(super) fn put_signed(&mut self, number: i64) {
        self.put((number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned());
    }

    pub(super) fn put_text(&mut self, text: &str) {
        self.put(text.len() as u64);
        self.put_bytes(text.as_bytes());
    }

    /// Writes these bytes without their number.
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Writes whether there is a value, and then the value.
    pub(super) fn put_option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.put(u64::from(value.is_some()));
        if let Some(value) = value {
            put(self, value);
        }
    }

    /// Writes the time in microseconds.
    pub(super) fn put_time(&mut self, at: Timestamp) {
        self.put_signed(at.as_micros());
    }

    pub(super) fn put_uuid(&mut self, id: Uuid) {
        self.put_bytes(id.as_bytes());
    }

    pub(super) fn put_optional_text(&mut self, text: Option<&str>) {
        self.put_option(text, Self::put_text);
    }

    /// Writes the value as JSON text. Returns `None` if it can't be written as JSON.
    pub(super) fn put_json(&mut self, value: &impl Serialize) -> Option<()> {
        self.put_text(&serde_json::to_string(value).ok()?);
        Some(())
    }
}

/// Reads what a [`Writer`] has written. Each method returns `None` if the bytes end too early.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if *byte < 0x80 {
                return Some(number);
            }
            shift += 7;
        }
    }

    pub(super) fn take_u32(&mut self) -> Option<u32> {
        u32::try_from(self.take()?).ok()
    }

    pub(super) fn take_len(&mut self) -> Option<usize> {
        usize::try_from(self.take()?).ok()
    }

    pub(super) fn take_signed(&mut self) -> Option<i64> {
        let number = self.take()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    pub(super) fn take_bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn take_text(&mut self) -> Option<&'a str> {
        let length = self.take_len()?;
        std::str::from_utf8(self.take_bytes(length)?).ok()
    }

    /// Reads whether there is a value, and then the value.
    pub(super) fn take_option<T>(&mut self, take: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.take()? == 0 { Some(None) } else { take(self).map(Some) }
    }

    pub(super) fn take_time(&mut self) -> Option<Timestamp> {
        self.take_signed().map(Timestamp::from_micros)
    }

    pub(super) fn take_uuid(&mut self) -> Option<Uuid> {
        Uuid::from_slice(self.take_bytes(16)?).ok()
    }

    pub(super) fn take_task_id(&mut self) -> Option<TaskId> {
        self.take_uuid().map(TaskId::from_uuid)
    }

    pub(super) fn take_optional_text<T: for<'b> From<&'b str>>(&mut self) -> Option<Option<T>> {
        self.take_option(|reader| reader.take_text().map(T::from))
    }

    pub(super) fn take_json<T: DeserializeOwned>(&mut self) -> Option<T> {
        serde_json::from_str(self.take_text()?).ok()
    }

    /// Reads a list: the number of its items, then each of them. Each item takes at least one byte, so a number above the
    /// length of the rest is refused before memory is reserved.
    pub(super) fn take_list<T>(&mut self, mut take: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.take_len().filter(|count| *count <= self.0.len())?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(take(self)?);
        }
        Some(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_read_as_it_was_written() {
        let mut writer = Writer::default();
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        let signed = [0, -1, 1, 63, -64, 64, i64::MAX, i64::MIN];
        for number in numbers {
            writer.put(number);
        }
        for number in signed {
            writer.put_signed(number);
        }
        writer.put_text("Straße");
        writer.put_option(Some(7), Writer::put);
        writer.put_option(None, Writer::put);
        let mut reader = Reader(&writer.0);
        assert_eq!(numbers.map(|_| reader.take()), numbers.map(Some));
        assert_eq!(signed.map(|_| reader.take_signed()), signed.map(Some));
        assert_eq!(reader.take_text(), Some("Straße"));
        assert_eq!(reader.take_option(Reader::take), Some(Some(7)));
        assert_eq!(reader.take_option(Reader::take), Some(None));
        assert_eq!((reader.take(), reader.take_bytes(1)), (None, None), "nothing follows");
    }

    #[test]
    fn a_number_near_zero_takes_one_byte() {
        for (number, length) in [(0, 1), (-64, 1), (63, 1), (64, 2), (-65, 2)] {
            let mut writer = Writer::default();
            writer.put_signed(number);
            assert_eq!(writer.0.len(), length, "{number}");
        }
    }
}
