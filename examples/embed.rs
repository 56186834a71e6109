//! An actix-web application that embeds Taskbell: it has a handler of its own, and one of its routes submits tasks.
//!
//! Run `cargo run --example embed` and then `curl -X POST http://127.0.0.1:8080/invoices/42`. Open the address in the
//! response.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, Responder, web};
use serde_json::{Value, json};
use taskbell::{Context, Done, Failure, Handler, Options, Taskbell};

/// The slow work of the application: it renders an invoice page by page.
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
            ctx.stop_if_cancelled()?; // acknowledges a cancel and stops
            ctx.progress(f64::from(page) / 20.0, format!("page {page} of 20"));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        // This step can't be interrupted. If a cancel is requested, the task's page shows the step's name until it ends.
        ctx.blocking("posting the invoice", |_| std::thread::sleep(Duration::from_secs(2))).await?;
        Ok(Done::new("20 pages").with_result(json!({ "pages": 20 })))
    }
}

/// A route of the application. It responds at once, and the work runs in the background.
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
    // The server has ended and has dropped its copies, so this is the last one. Running attempts get up to 2 s to stop.
    if let Some(taskbell) = Arc::into_inner(taskbell.into_inner()) {
        taskbell.stop().await;
    }
    Ok(())
}
