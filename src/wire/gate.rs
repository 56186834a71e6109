//! Looks at the headers of each request before its message is received. So a client without a right password can't make the
//! server keep messages.

use std::sync::Arc;

use tonic::service::Interceptor;
use tonic::{Extensions, Request, Status};

use super::access::password;
use super::backend::WireBackend;
use super::progress::ConnectionInfo;

/// Lets requests through to one service.
pub(super) struct Gate<B> {
    backend: Arc<B>,
    needs_reader: bool,
}

/// The backend as the client of a request may see it.
pub(super) struct Admitted<B>(Arc<B>);

impl<B> Gate<B> {
    /// The gate of a service that answers every client.
    pub(super) fn public(backend: &Arc<B>) -> Self {
        Self { backend: Arc::clone(backend), needs_reader: false }
    }

    /// The gate of a service that answers those who may read the backend.
    pub(super) fn for_readers(backend: &Arc<B>) -> Self {
        Self { backend: Arc::clone(backend), needs_reader: true }
    }
}

impl<B> Clone for Gate<B> {
    fn clone(&self) -> Self {
        Self { backend: Arc::clone(&self.backend), needs_reader: self.needs_reader }
    }
}

impl<B> Clone for Admitted<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: WireBackend> Admitted<B> {
    /// The backend of a request that has come through the gate for readers.
    pub(super) fn backend(extensions: &Extensions) -> Option<Arc<B>> {
        extensions.get::<Self>().map(|admitted| Arc::clone(&admitted.0))
    }
}

impl<B: WireBackend> Interceptor for Gate<B> {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let connection = request.extensions().get::<ConnectionInfo>().cloned().unwrap_or_default();
        connection.note_request();
        if !self.backend.needs_password() {
            connection.note_admission();
        }
        if self.needs_reader {
            let password = password(request.metadata());
            let backend = Arc::clone(&self.backend).for_reader(password.as_deref(), connection.client)?;
            connection.note_admission();
            request.extensions_mut().insert(Admitted(backend));
        }
        Ok(request)
    }
}
