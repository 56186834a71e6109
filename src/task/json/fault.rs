//! Why a text is refused as JSON.

/// Why a text is refused as JSON. Pointers (RFC 6901) are relative to the text, or to the item where one was scanned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It breaks the grammar of RFC 8259, or an escape in it is only one half of a surrogate pair.
    #[error("{what} at line {line} column {column}")]
    Malformed {
        /// What is missing or wrong.
        what: &'static str,
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
    },
    /// An object has the same key twice. Escaped and unescaped forms of a key are the same key.
    #[error("this key is repeated")]
    RepeatedKey {
        /// The pointer to the key.
        pointer: String,
    },
    /// Lists and objects are nested too deeply.
    #[error("nested deeper than {levels} levels")]
    TooDeep {
        /// The pointer to the first value that is too deep.
        pointer: String,
        /// The maximum number of levels.
        levels: usize,
    },
    /// It has too many values.
    #[error("more than {values} values in one body")]
    TooManyValues {
        /// The pointer to the first value that is too many.
        pointer: String,
        /// The maximum number of values.
        values: usize,
    },
}

impl Fault {
    /// The pointer to the fault; `None` if the text is not valid JSON.
    #[must_use]
    pub fn pointer(&self) -> Option<&str> {
        match self {
            Self::Malformed { .. } => None,
            Self::RepeatedKey { pointer } | Self::TooDeep { pointer, .. } | Self::TooManyValues { pointer, .. } => {
                Some(pointer)
            }
        }
    }
}

/// Appends a key or an index to a pointer.
pub fn push_segment(pointer: &mut String, key: &str) {
    pointer.push('/');
    if key.contains(['~', '/']) {
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
    } else {
        pointer.push_str(key);
    }
}
