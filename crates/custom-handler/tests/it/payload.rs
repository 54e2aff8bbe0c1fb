//! The invocation payload, without a host: what the handler makes of each part of it.

use serde_json::{Value, json};

use crate::handler::direct;
use crate::support::{Answer, Client};

fn payload(request: Value) -> String {
    json!({"Data": {"req": request}, "Metadata": {}}).to_string()
}

/// The response inside an answer.
fn response(answer: &Answer) -> (u64, Value, Value) {
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let res = &answer.json()["Outputs"]["res"];
    let body = res["body"].as_str().unwrap();
    let body = serde_json::from_str(body).unwrap_or_else(|_| json!(body));
    (res["statusCode"].as_u64().unwrap(), body, res["headers"].clone())
}

async fn put(client: &Client, request: Value) -> (u64, Value) {
    let mut whole = json!({"Url": "http://x/", "Method": "PUT", "Params": {"id": "x"}});
    whole.as_object_mut().unwrap().extend(request.as_object().unwrap().clone());
    let (status, body, _) = response(&client.post("/put", payload(whole)).await);
    (status, body)
}

#[tokio::test]
async fn what_is_not_a_payload_is_refused_with_the_reason() {
    let client = direct().await;
    for (body, detail) in [
        ("x", "Syntax error at line 1"),
        ("{}", "Data error at line 1"),
        (r#"{"Data":{"request":{"Url":"/","Method":"GET"}}}"#, "no req"),
        (r#"{"Data":{"req":{"Url":"/api/things/x","Method":"GET"}}}"#, "api/things/{id}"),
        (r#"{"Data":{"req":{"Url":"/","Method":"G T","Params":{"id":"x"}}}}"#, "method"),
    ] {
        let answer = client.post("/get", body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(detail), "{answer:?}");
    }
    assert_eq!(client.post("/no-such-function", "{}").await.status, 404);
}

#[tokio::test]
async fn the_parts_of_a_request_arrive() {
    let request = json!({
        "Url": "http://localhost/api/things/ignored?x=1", "Method": "GET", "Params": {"id": "a/b"},
        "Headers": {"X-Custom": ["one", "two"], "In valid": ["x"], "Content-Length": ["7"]},
        "Body": "ignored", "Identities": [],
    });
    let answer = direct().await.post("/get", payload(request)).await;
    let (status, body, headers) = response(&answer);
    assert_eq!(status, 200);
    let expected = json!({
        "id": "a/b", "query": "x=1", "custom": "one, two",
        "announced": false, "body": {"Ok": 0},
    });
    assert_eq!(body, expected);
    assert_eq!(headers, json!({"content-type": "application/json"}));
    assert_eq!(answer.json()["ReturnValue"], Value::Null);
}

#[tokio::test]
async fn a_body_may_be_text_or_json_or_base64() {
    let client = direct().await;
    let octets = json!({"Content-Type": ["application/octet-stream"], "Content-Length": ["999"]});
    for (request, body) in [
        (json!({}), ""),
        (json!({"Body": null}), ""),
        (json!({"Body": "text"}), "text"),
        (json!({"Body": {"a": 1}}), r#"{"a":1}"#),
        (json!({"Body": "Yg==", "Headers": octets}), "b"),
        (json!({"Body": "not base64", "Headers": octets}), "not base64"),
    ] {
        assert_eq!(put(&client, request).await, (200, json!({"put": body})));
    }
}

#[tokio::test]
async fn an_error_is_sent_inside_the_answer() {
    let client = direct().await;
    let missing = json!({"Url": "/", "Method": "GET", "Params": {"id": "missing"}});
    let (status, body, _) = response(&client.post("/get", payload(missing)).await);
    assert_eq!((status, body), (404, json!({"missing": "missing"})));
    let too_large = put(&client, json!({"Body": "this is 17 bytes."})).await;
    assert_eq!(too_large, (413, json!({"error": "too large"})));
}

#[tokio::test]
async fn a_head_request_is_answered_without_a_body() {
    let request = json!({"Url": "/", "Method": "HEAD", "Params": {"id": "x"}});
    let (status, body, _) = response(&direct().await.post("/get", payload(request)).await);
    assert_eq!((status, body), (200, json!("")));
}

#[tokio::test]
async fn a_refusal_is_sent_inside_the_answer() {
    let client = direct().await;
    let request = json!({"Url": "/", "Method": "DELETE", "Params": {"id": "x"}});
    let (status, body, _) = response(&client.post("/get", payload(request)).await);
    let refused = "MethodNotAllowed([GET, HEAD, PUT])";
    assert_eq!((status, body), (405, json!({"method": "DELETE", "refused": refused})));

    let (status, body, _) = response(&client.post("/put", " ".repeat(1024 * 1024 + 1)).await);
    let refused = "PayloadTooLarge { limit: 1048576 }";
    assert_eq!((status, body), (413, json!({"method": "POST", "refused": refused})));
}
