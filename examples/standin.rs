//! A database in memory with the protocol of EventStoreDB, to try `taskbell serve --store` on one machine. When the
//! process ends, the events are lost.
//!
//! ```sh
//! cargo run --example standin --features testing -- 127.0.0.1:2113
//! taskbell serve --store 'esdb://127.0.0.1:2113?tls=false' --listen 127.0.0.1:7070
//! taskbell serve --store 'esdb://127.0.0.1:2113?tls=false' --listen 127.0.0.1:7071
//! ```

use std::error::Error;
use std::net::SocketAddr;

use taskbell::wire::stand_in::Database;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:2113").parse()?;
    let server = Database::new().serve(address).await?;
    println!("esdb://{}?tls=false", server.addr());
    tokio::signal::ctrl_c().await?;
    server.stop().await;
    Ok(())
}
