//! Generates a content tree like the website of a small company: about 2,500 files, 300 MB, the same in every run.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use filetime::FileTime;

/// The number of files written, and their size together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TreeSize {
    pub files: u64,
    pub bytes: u64,
}

const KB: u64 = 1000;
const MB: u64 = 1000 * KB;
/// 2019-01-01T00:00:00Z, the oldest modification time.
const OLDEST: i64 = 1_546_300_800;
/// All modification times are within this many seconds after the oldest: about seven years.
const AGE_RANGE_S: u64 = 7 * 365 * 24 * 3600;

/// Writes the files of the tree.
struct TreeWriter<'a> {
    root: &'a Path,
    stop: &'a AtomicBool,
    /// The state of the random number generator.
    random_state: u64,
    /// Random bytes, from which the contents of all files are taken.
    random_bytes: Vec<u8>,
    written: TreeSize,
}

/// Writes the tree into `root`, which must not exist yet. Returns early, without an error, when `stop` becomes true.
pub(super) fn generate(root: &Path, stop: &AtomicBool) -> io::Result<TreeSize> {
    let mut writer = TreeWriter {
        root,
        stop,
        random_state: 0x5eed_bec0_ffee_1234,
        random_bytes: Vec::new(),
        written: TreeSize::default(),
    };
    writer.random_bytes = (0..MB / 4).flat_map(|_| writer.next_random().to_le_bytes()).collect();
    writer.write_assets()?;
    writer.write_docs()?;
    writer.write_products()?;
    writer.write_photos()?;
    writer.write_videos()?;
    Ok(writer.written)
}

impl TreeWriter<'_> {
    /// The next number of the generator xorshift64*. The sequence is the same in every run, and hard to compress.
    fn next_random(&mut self) -> u64 {
        self.random_state ^= self.random_state >> 12;
        self.random_state ^= self.random_state << 25;
        self.random_state ^= self.random_state >> 27;
        self.random_state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A random number from `low` to `high` - 1.
    fn random_between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next_random() % (high - low)
    }

    /// Writes a file with random content, permissions `mode` and a random modification time.
    fn write_file(&mut self, path: &str, bytes: u64, mode: u32) -> io::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let path = self.root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::create_new(&path)?;
        let mut rest = usize::try_from(bytes).unwrap_or(usize::MAX);
        while rest > 0 {
            let from = usize::try_from(self.next_random()).unwrap_or_default() % self.random_bytes.len();
            let part = &self.random_bytes[from..];
            let part = &part[..part.len().min(rest)];
            file.write_all(part)?;
            rest -= part.len();
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        let age = i64::try_from(self.next_random() % AGE_RANGE_S).unwrap_or_default();
        filetime::set_file_handle_times(&file, None, Some(FileTime::from_unix_time(OLDEST + age, 0)))?;
        self.written.files += 1;
        self.written.bytes += bytes;
        Ok(())
    }

    /// Creates a symbolic link at `path`.
    fn write_link(&mut self, to: &str, path: &str) -> io::Result<()> {
        if self.stop.load(Ordering::Relaxed) { Ok(()) } else { symlink(to, self.root.join(path)) }
    }

    fn write_assets(&mut self) -> io::Result<()> {
        for n in 0..180 {
            let bytes = self.random_between(KB, 24 * KB);
            self.write_file(&format!("assets/icons/icon-{n:03}.svg"), bytes, 0o644)?;
        }
        for name in ["css/site.3f2a91.css", "js/app.77b0c2.js", "js/vendor.d41d8c.js", "fonts/inter.woff2"] {
            let bytes = self.random_between(200 * KB, 900 * KB);
            self.write_file(&format!("assets/{name}"), bytes, 0o644)?;
        }
        self.write_link("site.3f2a91.css", "assets/css/site.css")?;
        self.write_file("assets/.keep", 0, 0o600)?;
        self.write_file("scripts/publish.sh", 2 * KB, 0o755)
    }

    fn write_docs(&mut self) -> io::Result<()> {
        for version in 1..=4 {
            for chapter in ["getting-started", "guides", "reference", "release-notes"] {
                for page in 1..=26 {
                    let bytes = self.random_between(4 * KB, 48 * KB);
                    self.write_file(&format!("docs/v{version}/{chapter}/page-{page:02}.html"), bytes, 0o644)?;
                }
            }
        }
        self.write_link("v4", "docs/latest")
    }

    fn write_products(&mut self) -> io::Result<()> {
        for (category, code) in [("lamps", "LA"), ("tables", "TA"), ("chairs", "CH"), ("Regale & Körbe", "RK")] {
            for n in 1..=90 {
                let folder = format!("shop/products/{category}/{code}-{n:04}");
                for (name, low, high) in
                    [("front.jpg", 30 * KB, 90 * KB), ("side.jpg", 20 * KB, 70 * KB), ("data.json", KB, 6 * KB)]
                {
                    let bytes = self.random_between(low, high);
                    self.write_file(&format!("{folder}/{name}"), bytes, 0o644)?;
                }
            }
        }
        Ok(())
    }

    fn write_photos(&mut self) -> io::Result<()> {
        for n in 0..720 {
            let bytes = self.random_between(60 * KB, 200 * KB);
            let (year, month) = (2021 + n / 120, 1 + n / 10 % 12);
            self.write_file(&format!("press/photos/{year}/{month:02}/IMG_{:04}.jpg", 1000 + n), bytes, 0o640)?;
        }
        self.write_link("photos/2026", "press/current")
    }

    fn write_videos(&mut self) -> io::Result<()> {
        for (name, mb) in [("keynote-2026", 80), ("factory-tour", 24), ("interview", 14), ("teaser", 6)] {
            self.write_file(&format!("videos/{name}.mp4"), mb * MB, 0o644)?;
        }
        Ok(())
    }
}
