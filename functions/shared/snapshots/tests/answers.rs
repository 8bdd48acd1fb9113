//! Answers of S3 that an emulator doesn't give, from a server that says them word for word.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, a surprise is a failure")]

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_smithy_http_client::Builder;
use milvault_jobs::ports::{Bucket, CopyOutcome, CopyRequest, Objects, ObjectsError};
use milvault_snapshots::S3Objects;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// A server that gives these answers, one per connection, and then tells the requests' first lines.
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
    objects(port).copy(request).await
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
