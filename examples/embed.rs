//! Somebody else's actix-web application, with Taskbell behind one of its routes and a handler of its own.
//!
//! `cargo run --example embed`, then `curl -X POST http://127.0.0.1:8080/invoices/42` and open the address it prints.

use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, Responder, web};
use serde_json::{Value, json};
use taskbell::{Context, Done, Failure, Handler, Options, Taskbell};

/// The slow part of the application: an invoice is rendered page by page.
struct RenderInvoice;

#[taskbell::async_trait]
impl Handler for RenderInvoice {
    fn kind(&self) -> &'static str {
        "invoice.render"
    }

    fn title(&self, input: &Value) -> Option<String> {
        Some(format!("Render invoice {}", input["number"]))
    }

    async fn run(&self, ctx: Context) -> Result<Done, Failure> {
        for page in 1..=20 {
            ctx.stop_if_cancelled()?; // the red cross, acknowledged here
            ctx.progress(f64::from(page) / 20.0, format!("page {page} of 20"));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        // Can't be taken back half-way: the bell names this step while it lasts.
        ctx.blocking("posting the invoice", |_| std::thread::sleep(Duration::from_secs(2))).await?;
        Ok(Done::new("20 pages").with_result(json!({ "pages": 20 })))
    }
}

/// A route of the application: it answers at once, the work goes on behind the bell.
async fn order_invoice(number: web::Path<u32>, taskbell: web::Data<Taskbell>) -> impl Responder {
    match taskbell.submit("invoice.render", json!({ "number": number.into_inner() })).await {
        Ok(id) => HttpResponse::Accepted().json(json!({ "see": format!("http://127.0.0.1:8080/tasks/{id}") })),
        Err(problem) => problem.response(),
    }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options { data: Some("target/embed-data".into()), ..Options::default() };
    let taskbell = web::Data::new(Taskbell::start(options.handler(RenderInvoice)?).await?);
    let shared = taskbell.clone();
    let routes = taskbell.routes();
    HttpServer::new(move || {
        let invoices = web::resource("/invoices/{number}").route(web::post().to(order_invoice));
        App::new().app_data(shared.clone()).service(invoices).configure(routes.clone())
    })
    .bind("127.0.0.1:8080")?
    .run()
    .await?;
    Ok(())
}
