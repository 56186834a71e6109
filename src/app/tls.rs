//! The certificate of a server process, which is read again when its files change.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::tls::TlsError;
use crate::tls::server::{Reload, ServerTls, TlsFiles};

/// How often the files are read again. They are small, and their contents show a change also where a symbolic link is replaced
/// or the time of a file is set back.
const PERIOD: Duration = Duration::from_secs(1);

/// A certificate, and the task that reads its files again. The task ends when this is dropped.
#[derive(Debug)]
pub struct ReloadingTls {
    certificate: Arc<ServerTls>,
    task: JoinHandle<()>,
}

impl ReloadingTls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// They can't be used.
    pub fn start(files: TlsFiles) -> Result<Self, TlsError> {
        let certificate = Arc::new(ServerTls::load(files)?);
        let task = actix_rt::spawn(reload_again_and_again(Arc::clone(&certificate)));
        Ok(Self { certificate, task })
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> Arc<ServerTls> {
        Arc::clone(&self.certificate)
    }
}

impl Drop for ReloadingTls {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn reload_again_and_again(certificate: Arc<ServerTls>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_error = None;
    loop {
        ticks.tick().await;
        let reloading = Arc::clone(&certificate);
        // A reload that panics is tried again; the former certificate is kept.
        let Ok(result) = web::block(move || reloading.reload()).await else { continue };
        last_error = report(result, last_error);
    }
}

/// Writes a log line unless the last one said the same. Returns the present error.
fn report(result: Result<Reload, TlsError>, last_error: Option<String>) -> Option<String> {
    match result {
        // Files that can't be used and have not changed since are reported once.
        Ok(Reload::Unchanged) => return last_error,
        Ok(Reload::Replaced) => tracing::info!("the certificate has changed; new connections get the new one"),
        Err(error) => {
            let error = error.to_string();
            if last_error.as_ref() != Some(&error) {
                tracing::warn!("the former certificate is kept: {error}");
            }
            return Some(error);
        }
    }
    None
}
