//! A content tree like a small company's website: some 2,500 files, 300 MB, the same in every run.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use filetime::FileTime;

/// What was written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub files: u64,
    pub bytes: u64,
}

const KB: u64 = 1000;
const MB: u64 = 1000 * KB;
/// 2019-01-01T00:00:00Z, the oldest modification time.
const OLDEST: i64 = 1_546_300_800;
/// Modification times lie within this many seconds after the oldest: some seven years.
const SPAN: u64 = 7 * 365 * 24 * 3600;

struct Writer<'a> {
    root: &'a Path,
    stop: &'a AtomicBool,
    random: u64,
    noise: Vec<u8>,
    written: Written,
}

/// Writes the tree into `root`, which must not exist yet. Returns early, without an error, when `stop` becomes true.
pub(super) fn generate(root: &Path, stop: &AtomicBool) -> io::Result<Written> {
    let mut writer =
        Writer { root, stop, random: 0x5eed_bec0_ffee_1234, noise: Vec::new(), written: Written::default() };
    writer.noise = (0..MB / 4).flat_map(|_| writer.next().to_le_bytes()).collect();
    writer.assets()?;
    writer.docs()?;
    writer.products()?;
    writer.photos()?;
    writer.videos()?;
    Ok(writer.written)
}

impl Writer<'_> {
    /// xorshift64*: repeatable, and hard to compress.
    fn next(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    fn file(&mut self, path: &str, bytes: u64, mode: u32) -> io::Result<()> {
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
            let from = usize::try_from(self.next()).unwrap_or_default() % self.noise.len();
            let part = &self.noise[from..];
            let part = &part[..part.len().min(rest)];
            file.write_all(part)?;
            rest -= part.len();
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        let age = i64::try_from(self.next() % SPAN).unwrap_or_default();
        filetime::set_file_handle_times(&file, None, Some(FileTime::from_unix_time(OLDEST + age, 0)))?;
        self.written.files += 1;
        self.written.bytes += bytes;
        Ok(())
    }

    fn link(&mut self, to: &str, path: &str) -> io::Result<()> {
        if self.stop.load(Ordering::Relaxed) { Ok(()) } else { symlink(to, self.root.join(path)) }
    }

    fn assets(&mut self) -> io::Result<()> {
        for n in 0..180 {
            let bytes = self.between(KB, 24 * KB);
            self.file(&format!("assets/icons/icon-{n:03}.svg"), bytes, 0o644)?;
        }
        for name in ["css/site.3f2a91.css", "js/app.77b0c2.js", "js/vendor.d41d8c.js", "fonts/inter.woff2"] {
            let bytes = self.between(200 * KB, 900 * KB);
            self.file(&format!("assets/{name}"), bytes, 0o644)?;
        }
        self.link("site.3f2a91.css", "assets/css/site.css")?;
        self.file("assets/.keep", 0, 0o600)?;
        self.file("scripts/publish.sh", 2 * KB, 0o755)
    }

    fn docs(&mut self) -> io::Result<()> {
        for version in 1..=4 {
            for chapter in ["getting-started", "guides", "reference", "release-notes"] {
                for page in 1..=26 {
                    let bytes = self.between(4 * KB, 48 * KB);
                    self.file(&format!("docs/v{version}/{chapter}/page-{page:02}.html"), bytes, 0o644)?;
                }
            }
        }
        self.link("v4", "docs/latest")
    }

    fn products(&mut self) -> io::Result<()> {
        for (category, code) in [("lamps", "LA"), ("tables", "TA"), ("chairs", "CH"), ("Regale & Körbe", "RK")] {
            for n in 1..=90 {
                let folder = format!("shop/products/{category}/{code}-{n:04}");
                for (name, low, high) in
                    [("front.jpg", 30 * KB, 90 * KB), ("side.jpg", 20 * KB, 70 * KB), ("data.json", KB, 6 * KB)]
                {
                    let bytes = self.between(low, high);
                    self.file(&format!("{folder}/{name}"), bytes, 0o644)?;
                }
            }
        }
        Ok(())
    }

    fn photos(&mut self) -> io::Result<()> {
        for n in 0..720 {
            let bytes = self.between(60 * KB, 200 * KB);
            let (year, month) = (2021 + n / 120, 1 + n / 10 % 12);
            self.file(&format!("press/photos/{year}/{month:02}/IMG_{:04}.jpg", 1000 + n), bytes, 0o640)?;
        }
        self.link("photos/2026", "press/current")
    }

    fn videos(&mut self) -> io::Result<()> {
        for (name, mb) in [("keynote-2026", 80), ("factory-tour", 24), ("interview", 14), ("teaser", 6)] {
            self.file(&format!("videos/{name}.mp4"), mb * MB, 0o644)?;
        }
        Ok(())
    }
}
