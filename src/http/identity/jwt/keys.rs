//! The keys of an issuer, and when they are read again.
//!
//! - At the start, and from a file whenever it has changed.
//! - When a token names an unknown key, but at most once a minute. So tokens that anybody can make up don't make this server send
//!   many requests to the issuer.
//! - From an address every 15 minutes, so that a key that the issuer has withdrawn verifies nothing for longer.
//!
//! If a reading fails, the former keys stay. Requests that need keys at the same time wait for the same reading. The reading
//! goes on if the request ends that has begun it: otherwise a client could use up the one reading of a minute and stop it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;

use super::algorithm::JwtAlgorithm;
use super::fetch::Fetcher;
use super::key::{KEY_SET_MAX, Key, find_key, read_keys};
use super::refusal::JwtRefusal;
use crate::http::identity::settings::KeySource;
use crate::task::Timestamp;

/// The shortest time between two readings because of an unknown key.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_mins(1);
/// Keys that were fetched this long ago are fetched again.
const FETCH_AGAIN_AFTER: Duration = Duration::from_mins(15);
/// The shortest time between two looks at the file.
const FILE_LOOK_PAUSE: Duration = Duration::from_secs(1);
/// The keys of one issuer. A clone has the same keys.
#[derive(Clone)]
pub(super) struct IssuerKeys {
    shared: Arc<Shared>,
}

struct Shared {
    source: Source,
    current: RwLock<Current>,
    /// Held while the keys are read.
    last_reading: Mutex<Option<Timestamp>>,
}

enum Source {
    Address(Fetcher),
    File(Box<Path>),
}

#[derive(Clone, Default)]
struct Current {
    keys: Arc<[Key]>,
    /// How many readings have succeeded.
    version: u64,
    /// When the file was looked at, or the address asked, for the last time.
    looked_at: Option<Timestamp>,
    /// Of the file that the keys were read from.
    stamp: Option<FileStamp>,
}

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    modified: SystemTime,
    bytes: u64,
    inode: u64,
}

impl IssuerKeys {
    /// Begins to read the keys.
    pub fn start(source: KeySource, now: Timestamp) -> Self {
        let source = match source {
            KeySource::Url(url) => Source::Address(Fetcher::new(url)),
            KeySource::File(path) => Source::File(path.into()),
        };
        let shared = Arc::new(Shared { source, current: RwLock::default(), last_reading: Mutex::new(None) });
        shared.set_looked_at(now);
        tokio::spawn(shared.clone().read(0, now));
        Self { shared }
    }

    /// The key with which a token is to be verified.
    ///
    /// # Errors
    /// There is no such key, also not after another reading.
    pub async fn find(&self, algorithm: JwtAlgorithm, kid: Option<&str>, now: Timestamp) -> Result<Key, JwtRefusal> {
        self.look_for_changes(now).await;
        let current = self.shared.current();
        match find_key(&current.keys, algorithm, kid) {
            Ok(key) => return Ok(key.clone()),
            Err(JwtRefusal::UnknownKey) => {}
            Err(refusal) => return Err(refusal),
        }
        // A task of its own reads, and goes on if this request ends. It fails only if it panics.
        let _ = tokio::spawn(self.shared.clone().read(current.version, now)).await;
        find_key(&self.shared.current().keys, algorithm, kid).cloned()
    }

    /// Reads a file that has changed, and begins to fetch keys that are old.
    async fn look_for_changes(&self, now: Timestamp) {
        let current = self.shared.current();
        let pause = match self.shared.source {
            Source::Address(_) => FETCH_AGAIN_AFTER,
            Source::File(_) => FILE_LOOK_PAUSE,
        };
        if !is_over(current.looked_at, pause, now) {
            return;
        }
        self.shared.set_looked_at(now);
        match &self.shared.source {
            // The tokens don't wait for it, because their keys are probably among the present ones.
            Source::Address(_) => drop(tokio::spawn(self.shared.clone().read(current.version, now))),
            Source::File(path) => {
                if stamp(path).await.ok() != current.stamp {
                    self.shared.read_now().await;
                }
            }
        }
    }
}

/// Whether the pause is over. A clock that was set back ends each pause.
fn is_over(since: Option<Timestamp>, pause: Duration, now: Timestamp) -> bool {
    since.is_none_or(|since| now < since || now.since(since) >= pause)
}

impl Shared {
    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_looked_at(&self, now: Timestamp) {
        self.current.write().unwrap_or_else(PoisonError::into_inner).looked_at = Some(now);
    }

    /// Reads the keys, unless they were read since the version `seen`, or less than a minute ago.
    async fn read(self: Arc<Self>, seen: u64, now: Timestamp) {
        let mut last_reading = self.last_reading.lock().await;
        if self.current().version == seen && is_over(*last_reading, UNKNOWN_KEY_PAUSE, now) {
            *last_reading = Some(now);
            self.read_now().await;
        }
    }

    async fn read_now(&self) {
        let (result, from, stamp) = match &self.source {
            Source::Address(fetcher) => (fetcher.fetch().await, fetcher.url().to_string(), None),
            Source::File(path) => {
                let stamp = stamp(path).await.ok();
                (read_file(path).await.map_err(|error| error.to_string()), path.display().to_string(), stamp)
            }
        };
        let keys = result.and_then(|text| read_keys(&text).map_err(|error| error.to_string()));
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.stamp = stamp;
        match keys {
            Ok(keys) => {
                tracing::info!(from, keys = keys.len(), "the keys of the issuer of JWTs are read");
                (current.keys, current.version) = (keys.into(), current.version + 1);
            }
            Err(error) => {
                let former = current.keys.len();
                tracing::warn!(
                    from,
                    error,
                    former,
                    "the keys of the issuer of JWTs can't be read; the former keys stay"
                );
            }
        }
    }
}

async fn stamp(path: &Path) -> io::Result<FileStamp> {
    let metadata = tokio::fs::metadata(path).await?;
    Ok(FileStamp { modified: metadata.modified()?, bytes: metadata.len(), inode: metadata.ino() })
}

async fn read_file(path: &Path) -> io::Result<String> {
    if tokio::fs::metadata(path).await?.len() > KEY_SET_MAX as u64 {
        return Err(io::Error::other("it is longer than 262144 bytes"));
    }
    tokio::fs::read_to_string(path).await
}
