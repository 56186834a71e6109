//! Numbers in an input and a result are kept exactly as they are written.

use super::*;

const NUMBERS: [&str; 14] = [
    "1.50",
    "1E5",
    "1e+05",
    "-0",
    "-0.0",
    "0.10000000000000000000000000000000000000001",
    "18446744073709551616",
    "-9223372036854775809",
    "123456789012345678901234567890123456789012345678901234567890",
    "1e400",
    "-1e-400",
    "9007199254740993",
    "100000000000000000000000.0",
    "5e-324",
];

#[tokio::test]
async fn a_number_is_kept_exactly_as_it_is_written() {
    let server = Server::start();
    for number in NUMBERS {
        let value = format!(r#"{{"n":{number},"all":[{number},[{number}]]}}"#);
        let id = submit(&server, &value);
        let (lease, leased) = take(&server);
        assert!(leased.contains(&format!(r#""input":{value}"#)), "{number}: {leased}");
        finish(&server, &lease, &value);
        for text in shown(&server, &id).await {
            assert!(text.contains(&format!(r#""input":{value}"#)), "{number}: {text}");
            assert!(text.contains(&format!(r#""result":{value}"#)), "{number}: {text}");
        }
    }
}

#[tokio::test]
async fn a_number_survives_a_restart_and_stands_alone_as_an_input() {
    let mut server = Server::start();
    let ids: Vec<String> = NUMBERS.iter().map(|number| submit(&server, number)).collect();
    server.restart();
    for (id, number) in ids.iter().zip(NUMBERS) {
        let [page, ..] = shown(&server, id).await;
        assert!(page.contains(&format!(r#""input":{number},"#)), "{number}: {page}");
    }
}

#[tokio::test]
async fn numbers_that_are_written_differently_make_different_requests() {
    let server = Server::start();
    let send = |key: usize, input: &str| {
        let body = format!(r#"{{"kind":"a","input":{input}}}"#);
        let headers = format!("Idempotency-Key: {key}\r\nContent-Type: application/json\r\n");
        let headers = format!("{headers}Content-Length: {}\r\n", body.len());
        raw_http::raw(&server, "POST /v1/tasks", &headers, body.as_bytes())
    };
    let pairs = [
        ("18446744073709551616", "18446744073709551617"),
        ("1.5", "1.50"),
        ("1e5", "100000.0"),
        ("-0", "-0.0"),
        ("[1e400]", "[2e400]"),
    ];
    for (key, (one, other)) in pairs.into_iter().enumerate() {
        assert_eq!(send(key, one).status, 201, "{one}");
        assert_eq!(send(key, &format!(" {one} ")).status, 200, "{one}");
        send(key, other).assert_problem(422, "idempotency_key_reused");
    }
    assert_eq!(log_head(&server).await["position"], pairs.len());
}
