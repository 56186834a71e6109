//! The descriptions of the routes.

use actix_web::http::StatusCode;

use super::{FILE_PATH, PAGE_PATHS};
use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::operation::{Answer, Operation};
use crate::http::plumbing::openapi::parameters::{header, path};
use crate::http::plumbing::openapi::schema::{one_of, uuid, written_text};

/// The path and the description of each route.
pub fn all() -> impl Iterator<Item = (&'static str, Operation)> {
    let [list, task] = PAGE_PATHS;
    [(list, tasks_page()), (task, task_page()), (FILE_PATH, file())].into_iter()
}

fn tasks_page() -> Operation {
    page("showTasksPage", "The page with the bell and the tasks")
}

fn task_page() -> Operation {
    page("showTaskPage", "The page of one task").parameters([path("id", "The id of the task.", uuid())])
}

fn page(id: &'static str, summary: &'static str) -> Operation {
    let answer = Answer::empty(StatusCode::OK, "The page.").of_type("text/html", written_text());
    cached(Operation::public("pages", id, summary).describe("HTML. Its script reads the API."))
        .answers(answer.with_header("ETag", "ETag"))
}

fn file() -> Operation {
    let types = ["text/css", "text/javascript", "image/svg+xml"];
    let any_type = |answer: Answer, media_type: &&str| answer.of_type(media_type, written_text());
    let answer = types.iter().fold(Answer::empty(StatusCode::OK, "The file."), any_type).with_header("ETag", "ETag");
    let names = super::FILES.iter().map(|(name, ..)| *name);
    cached(Operation::public("pages", "readFile", "A file of the pages").describe("A script, a style or an image."))
        .parameters([path("file", "The name of the file.", one_of(names))])
        .refuses(&[Refusal::NotFound])
        .answers(answer)
}

/// The client may send the hash of the file that it has.
fn cached(operation: Operation) -> Operation {
    let hash = header("If-None-Match", "The `ETag` of the file that the client has.", written_text());
    let unchanged = Answer::empty(StatusCode::NOT_MODIFIED, "The file has not changed.").with_header("ETag", "ETag");
    operation.parameters([hash]).answers(unchanged)
}
