//! The gRPC service `Streams`: the methods for reads, subscriptions and writes.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Response, Status, Streaming};

use super::append;
use super::backend::{StreamDeletion, WireBackend};
use super::batch::OpenAppends;
use super::event::{ExpectedRevision, WirePosition};
use super::gate::Admitted;
use super::proto::streams::delete_req::options::ExpectedStreamRevision as DeleteExpected;
use super::proto::streams::streams_server::Streams;
use super::proto::streams::tombstone_req::options::ExpectedStreamRevision as TombstoneExpected;
use super::proto::streams::{
    AppendReq, AppendResp, BatchAppendReq, BatchAppendResp, DeleteReq, DeleteResp, ReadReq, ReadResp, TombstoneReq,
    TombstoneResp, delete_resp, tombstone_resp,
};
use super::read::{EarlyEnd, ReadRange, ReadResponses, read_all, read_stream};
use super::refusal::Refusal;
use super::request::{ReadKind, ReadRequest, missing, stream_name};
use super::subscribe::{follow_all, follow_stream};

/// The largest number of messages that wait for one client.
const RESPONSES_MAX: usize = 32;

/// The service `Streams` for one backend.
pub(super) struct StreamsService<B> {
    backend: Arc<B>,
}

impl<B: WireBackend> StreamsService<B> {
    pub(super) fn new(backend: Arc<B>) -> Self {
        Self { backend }
    }

    /// Asks the backend whether it accepts the request, before the request is parsed. Returns the backend as the client may see
    /// it, which the gate has found out.
    async fn check_request(&self, metadata: &MetadataMap, extensions: &Extensions) -> Result<Arc<B>, Status> {
        let requires_leader = metadata.get("requires-leader").is_some_and(|value| value == "true");
        self.backend.check_request(requires_leader).await?;
        Admitted::backend(extensions).ok_or_else(|| Refusal::Unauthenticated.into())
    }

    /// Like `check_request`, for a write. A read-only backend refuses the write before the client sends its messages.
    async fn check_write_request(&self, metadata: &MetadataMap, extensions: &Extensions) -> Result<(), Status> {
        self.check_request(metadata, extensions).await?;
        if self.backend.is_writable() { Ok(()) } else { Err(Refusal::AccessDenied.into()) }
    }

    async fn delete_stream(&self, delete: StreamDeletion) -> Result<WirePosition, Status> {
        Ok(self.backend.delete(delete).await?)
    }
}

/// Sends the messages of a read or a subscription until it ends, or until the reader's credential does.
async fn serve_read<B: WireBackend>(backend: Arc<B>, responses: ReadResponses, kind: ReadKind) {
    let backend = backend.as_ref();
    let ended = tokio::select! {
        ended = send_all(backend, &responses, &kind) => ended,
        refusal = backend.wait_for_revocation() => Err(EarlyEnd::Refused(refusal)),
    };
    if let Err(EarlyEnd::Refused(refusal)) = ended {
        responses.refuse(refusal).await;
    }
}

async fn send_all(backend: &dyn WireBackend, responses: &ReadResponses, kind: &ReadKind) -> Result<(), EarlyEnd> {
    match kind {
        ReadKind::Stream { stream, from, backwards, count } => {
            read_stream(backend, responses, stream, ReadRange { from: *from, backwards: *backwards }, *count).await
        }
        ReadKind::All { from, backwards, count, filter } => {
            read_all(backend, responses, ReadRange { from: *from, backwards: *backwards }, *count, filter.as_ref())
                .await
        }
        ReadKind::FollowStream { .. } | ReadKind::FollowAll { .. } => tokio::select! {
            ended = serve_subscription(backend, responses, kind) => ended,
            () = backend.wait_for_injected_end() => Ok(()),
        },
    }
}

async fn serve_subscription(
    backend: &dyn WireBackend,
    responses: &ReadResponses,
    kind: &ReadKind,
) -> Result<(), EarlyEnd> {
    match kind {
        ReadKind::FollowStream { stream, after } => follow_stream(backend, responses, stream, *after).await,
        ReadKind::FollowAll { after, filter } => follow_all(backend, responses, *after, filter.as_ref()).await,
        ReadKind::Stream { .. } | ReadKind::All { .. } => Ok(()),
    }
}

/// Serves one call of `BatchAppend`. Each append goes to the backend as soon as its last chunk has come. The appends don't
/// wait for each other.
async fn serve_batch_append<B: WireBackend>(
    backend: Arc<B>,
    mut chunks: Streaming<BatchAppendReq>,
    responses: mpsc::Sender<Result<BatchAppendResp, Status>>,
) {
    let mut open_appends = OpenAppends::default();
    loop {
        let complete = match chunks.message().await {
            Ok(Some(chunk)) => open_appends.receive(chunk).map_err(Status::from),
            Ok(None) => return,
            Err(status) => Err(status),
        };
        match complete {
            Ok(Some(complete)) => {
                let (append, header) = complete.split();
                let (backend, responses) = (Arc::clone(&backend), responses.clone());
                tokio::spawn(async move {
                    let written = match append {
                        Ok(append) => backend.append(append).await,
                        Err(refusal) => Err(refusal),
                    };
                    // An error means that the client has gone and needs no response.
                    let _ = responses.send(Ok(header.into_response(written))).await;
                });
            }
            Ok(None) => {}
            Err(status) => {
                let _ = responses.send(Err(status)).await;
                return;
            }
        }
    }
}

#[async_trait]
impl<B: WireBackend> Streams for StreamsService<B> {
    type ReadStream = ReceiverStream<Result<ReadResp, Status>>;
    type BatchAppendStream = ReceiverStream<Result<BatchAppendResp, Status>>;

    async fn read(&self, request: Request<ReadReq>) -> Result<Response<Self::ReadStream>, Status> {
        let backend = self.check_request(request.metadata(), request.extensions()).await?;
        let ReadRequest { kind, ids } = ReadRequest::parse(request.into_inner())?;
        let (sender, receiver) = mpsc::channel(RESPONSES_MAX);
        tokio::spawn(serve_read(backend, ReadResponses { sender, ids }, kind));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn append(&self, request: Request<Streaming<AppendReq>>) -> Result<Response<AppendResp>, Status> {
        self.check_write_request(request.metadata(), request.extensions()).await?;
        let append = append::receive_append(request.into_inner()).await?;
        Ok(Response::new(append::append_response(self.backend.append(append).await)?))
    }

    async fn delete(&self, request: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        self.check_write_request(request.metadata(), request.extensions()).await?;
        let options = request.into_inner().options.ok_or_else(|| missing("options"))?;
        let expected = match options.expected_stream_revision {
            Some(DeleteExpected::Revision(revision)) => ExpectedRevision::Exact(revision),
            Some(DeleteExpected::NoStream(_)) => ExpectedRevision::NoStream,
            Some(DeleteExpected::StreamExists(_)) => ExpectedRevision::StreamExists,
            Some(DeleteExpected::Any(_)) => ExpectedRevision::Any,
            None => return Err(missing("expected_stream_revision").into()),
        };
        let stream = stream_name(options.stream_identifier)?;
        let position = self.delete_stream(StreamDeletion { stream, expected, is_permanent: false }).await?;
        let position = delete_resp::Position { commit_position: position.commit, prepare_position: position.prepare };
        Ok(Response::new(DeleteResp { position_option: Some(delete_resp::PositionOption::Position(position)) }))
    }

    async fn tombstone(&self, request: Request<TombstoneReq>) -> Result<Response<TombstoneResp>, Status> {
        self.check_write_request(request.metadata(), request.extensions()).await?;
        let options = request.into_inner().options.ok_or_else(|| missing("options"))?;
        let expected = match options.expected_stream_revision {
            Some(TombstoneExpected::Revision(revision)) => ExpectedRevision::Exact(revision),
            Some(TombstoneExpected::NoStream(_)) => ExpectedRevision::NoStream,
            Some(TombstoneExpected::StreamExists(_)) => ExpectedRevision::StreamExists,
            Some(TombstoneExpected::Any(_)) => ExpectedRevision::Any,
            None => return Err(missing("expected_stream_revision").into()),
        };
        let stream = stream_name(options.stream_identifier)?;
        let position = self.delete_stream(StreamDeletion { stream, expected, is_permanent: true }).await?;
        let position =
            tombstone_resp::Position { commit_position: position.commit, prepare_position: position.prepare };
        Ok(Response::new(TombstoneResp { position_option: Some(tombstone_resp::PositionOption::Position(position)) }))
    }

    async fn batch_append(
        &self,
        request: Request<Streaming<BatchAppendReq>>,
    ) -> Result<Response<Self::BatchAppendStream>, Status> {
        self.check_write_request(request.metadata(), request.extensions()).await?;
        let (sender, receiver) = mpsc::channel(RESPONSES_MAX);
        tokio::spawn(serve_batch_append(Arc::clone(&self.backend), request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
