//! Answers of S3 that no emulator gives, from a server that sends them word for word.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, a surprise is a failure")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_smithy_http_client::Builder;
use milvault_ports::{Bucket, CopyOutcome, CopyRequest, Objects, ObjectsError};
use milvault_s3::{Parts, S3Objects};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Semaphore,
    task::JoinHandle,
};

/// A server that gives these answers, one per connection, and then returns the requests' first lines.
async fn says(answers: Vec<(&'static str, &'static str)>) -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let mut asked = Vec::new();
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).await.unwrap();
                request.extend(byte);
            }
            asked.push(String::from_utf8(request).unwrap().lines().next().unwrap_or_default().to_owned());
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        asked
    });
    (port, served)
}

fn objects(port: u16) -> S3Objects {
    S3Objects::new(move |region| {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_string()))
            .credentials_provider(Credentials::new("a", "b", None, None, "test"))
            .endpoint_url(format!("http://127.0.0.1:{port}"))
            .force_path_style(true)
            .retry_config(RetryConfig::standard().with_max_attempts(5))
            .http_client(Builder::new().build_http())
            .build();
        aws_sdk_s3::Client::from_conf(config)
    })
}

async fn copy(port: u16) -> Result<CopyOutcome, ObjectsError> {
    copy_with(objects(port)).await
}

async fn copy_with(objects: S3Objects) -> Result<CopyOutcome, ObjectsError> {
    let bucket = |name: &str| Bucket { region: "eu-west-1".parse().unwrap(), name: name.to_owned() };
    let (from, to) = (bucket("data"), bucket("snapshots"));
    let request = CopyRequest {
        from: &from,
        from_key: "files/insert_log/1/2/3/0/4",
        from_etag: "e",
        size: 7,
        to: &to,
        to_key: "orders/objects/a/1/insert_log/2/3/0/4",
        stored_by: "bk-1",
    };
    objects.copy(request).await
}

#[tokio::test]
async fn an_answer_of_200_that_carries_an_error_is_an_error() {
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>InternalError</Code><Message>We encountered an \
                internal error. Please try again.</Message></Error>";
    let (port, served) = says(vec![("200 OK", body)]).await;
    let copied = copy(port).await;
    assert!(matches!(&copied, Err(ObjectsError::Unavailable(why)) if why.contains("InternalError")), "{copied:?}");
    assert_eq!(served.await.unwrap().len(), 1);
}

#[tokio::test]
async fn who_copies_hears_at_once_that_s3_wants_fewer_requests() {
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>SlowDown</Code><Message>Please reduce your request \
                rate.</Message></Error>";
    let (port, served) = says(vec![("503 Slow Down", body)]).await;
    let copied = copy(port).await;
    assert!(matches!(&copied, Err(ObjectsError::Unavailable(why)) if why.contains("SlowDown")), "{copied:?}");
    assert_eq!(served.await.unwrap().len(), 1, "it isn't tried again out of sight");
}

#[tokio::test]
async fn a_good_answer_is_a_copy() {
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><CopyObjectResult><ETag>\"f\"</ETag></CopyObjectResult>";
    let (port, served) = says(vec![("200 OK", body)]).await;
    assert_eq!(copy(port).await.unwrap(), CopyOutcome::Copied { etag: "f".to_owned() });
    let asked = served.await.unwrap();
    assert!(asked[0].starts_with("PUT /snapshots/orders/objects/a/1/insert_log/2/3/0/4"), "{asked:?}");
}

/// A server for copies in parts, which logs requests and answers in order. It refuses the first part, and answers the
/// second only a while after that.
async fn parts_of_which_the_first_fails() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let log = Arc::new(Mutex::new(Vec::new()));
    let (said, first) = (log.clone(), Arc::new(Semaphore::new(0)));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (said, first) = (said.clone(), first.clone());
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).await.unwrap();
                    request.extend(byte);
                }
                let line = String::from_utf8(request).unwrap().lines().next().unwrap_or_default().to_owned();
                let refusal = "<Error><Code>InvalidRequest</Code></Error>";
                let begun = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>";
                let part = "<CopyPartResult><ETag>\"p\"</ETag></CopyPartResult>";
                let (name, status, body) = match &line {
                    line if line.starts_with("HEAD") => ("look", "404 Not Found", ""),
                    line if line.starts_with("POST") => ("begin", "200 OK", begun),
                    line if line.starts_with("DELETE") => ("abort", "204 No Content", ""),
                    line if line.contains("partNumber=1&") => ("part 1", "400 Bad Request", refusal),
                    line if line.contains("partNumber=2&") => ("part 2", "200 OK", part),
                    _ => ("another", "200 OK", part),
                };
                if name == "part 2" {
                    let _after = first.acquire().await.unwrap();
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                said.lock().unwrap().push(name.to_owned());
                let length =
                    if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
                let answer = format!("HTTP/1.1 {status}\r\n{length}connection: close\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
                if name == "part 1" {
                    first.add_permits(1);
                }
            });
        }
    });
    (port, log)
}

#[tokio::test]
async fn after_a_part_has_failed_no_other_begins_and_the_upload_is_aborted_when_all_have_ended() {
    let (port, log) = parts_of_which_the_first_fails().await;
    let parts = Parts { above: 0, size: 2, in_flight: 2 };
    let copied = copy_with(objects(port).with_parts(parts)).await;
    assert!(matches!(&copied, Err(ObjectsError::Unavailable(why)) if why.contains("InvalidRequest")), "{copied:?}");
    assert_eq!(*log.lock().unwrap(), ["look", "begin", "part 1", "part 2", "abort"]);
}
