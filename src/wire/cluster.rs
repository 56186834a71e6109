//! The services that clients call before their first read or write: `Gossip` returns the members of the cluster,
//! `ServerFeatures` the methods of the server.

use std::sync::Arc;

use async_trait::async_trait;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::backend::{ClusterMember, WireBackend};
use super::proto::gossip::gossip_server::Gossip;
use super::proto::gossip::member_info::VNodeState;
use super::proto::gossip::{ClusterInfo, EndPoint, MemberInfo};
use super::proto::server_features::server_features_server::ServerFeatures;
use super::proto::server_features::{SupportedMethod, SupportedMethods};
use super::proto::shared::{self, Empty};
use crate::clock::now;

/// The server version that clients are told. They derive from it what the server can do.
const SERVER_VERSION: &str = "24.10.0";

/// The services `Gossip` and `ServerFeatures` for one backend.
pub(super) struct ClusterService<B>(pub(super) Arc<B>);

#[async_trait]
impl<B: WireBackend> Gossip for ClusterService<B> {
    async fn read(&self, _request: Request<Empty>) -> Result<Response<ClusterInfo>, Status> {
        self.0.check_request(false).await?;
        let members = self.0.members().iter().map(member_info).collect();
        Ok(Response::new(ClusterInfo { members }))
    }
}

fn member_info(member: &ClusterMember) -> MemberInfo {
    let state = if member.is_leader { VNodeState::Leader } else { VNodeState::Follower };
    MemberInfo {
        instance_id: Some(id_as_text(member.id)),
        time_stamp: now().as_micros().saturating_mul(10),
        state: state.into(),
        is_alive: true,
        http_end_point: Some(EndPoint { address: member.addr.ip().to_string(), port: u32::from(member.addr.port()) }),
    }
}

fn id_as_text(id: Uuid) -> shared::Uuid {
    shared::Uuid { value: Some(shared::uuid::Value::String(id.to_string())) }
}

#[async_trait]
impl<B: WireBackend> ServerFeatures for ClusterService<B> {
    async fn get_supported_methods(&self, _request: Request<Empty>) -> Result<Response<SupportedMethods>, Status> {
        self.0.check_request(false).await?;
        let writes: &[&str] =
            if self.0.is_writable() { &["append", "batchappend", "delete", "tombstone"] } else { &[] };
        let streams = [&["read"], writes].concat().into_iter().map(|name| method("streams.streams", name));
        let others = [method("gossip.gossip", "read"), method("server_features.serverfeatures", "getsupportedmethods")];
        Ok(Response::new(SupportedMethods {
            methods: streams.chain(others).collect(),
            event_store_server_version: SERVER_VERSION.to_owned(),
        }))
    }
}

fn method(service: &str, name: &str) -> SupportedMethod {
    SupportedMethod {
        method_name: name.to_owned(),
        service_name: format!("event_store.client.{service}"),
        features: Vec::new(),
    }
}
