//! Uploads of unknown length: in parts, one in memory at a time. What is not finished is taken back.

use aws_sdk_s3::{
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};

use super::{Kind, ObjectError, ObjectStore, checked, classify};

/// The size of a part; S3 wants at least 5 MiB for all but the last.
const PART: usize = 8 * 1024 * 1024;

impl ObjectStore {
    /// Stores a stream under a key and says how long it was. The object appears whole or not at all: if the stream fails,
    /// the store fails or this future is dropped, the parts sent so far are removed.
    pub async fn upload<B>(&self, key: &str, kind: &Kind, bytes: B) -> Result<u64, ObjectError>
    where
        B: Stream<Item = std::io::Result<Bytes>> + Send,
    {
        let mut source = Parts {
            bytes: Box::pin(bytes),
            pending: BytesMut::new(),
        };
        let first = source.next().await?;
        if first.len() < PART {
            let length = first.len() as u64;
            return self.put(key, kind, first).await.map(|()| length);
        }
        let mut upload = self.begin(key, kind).await?;
        match upload.send_all(first, &mut source).await {
            Ok(length) => Ok(length),
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    async fn begin(&self, key: &str, kind: &Kind) -> Result<Upload, ObjectError> {
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(&*self.bucket)
            .key(checked(key)?)
            .content_type(&kind.content_type)
            .set_cache_control(kind.cache_control.clone())
            .send()
            .await
            .map_err(|error| classify("begin an upload", &error))?;
        let Some(id) = begun.upload_id else {
            return Err(ObjectError::Refused {
                doing: "begin an upload",
                reason: "no id".to_owned(),
            });
        };
        Ok(Upload {
            store: self.clone(),
            key: key.to_owned(),
            id,
            parts: Vec::new(),
            unfinished: true,
        })
    }
}

/// A stream cut into parts.
struct Parts<B> {
    bytes: std::pin::Pin<Box<B>>,
    pending: BytesMut,
}

impl<B: Stream<Item = std::io::Result<Bytes>>> Parts<B> {
    /// The next part; shorter than [`PART`] only at the end.
    async fn next(&mut self) -> Result<Bytes, ObjectError> {
        while self.pending.len() < PART {
            match self.bytes.next().await {
                Some(chunk) => self.pending.extend_from_slice(&chunk.map_err(ObjectError::Source)?),
                None => return Ok(std::mem::take(&mut self.pending).freeze()),
            }
        }
        Ok(self.pending.split_to(PART).freeze())
    }
}

/// An upload that has begun.
struct Upload {
    store: ObjectStore,
    key: String,
    id: String,
    parts: Vec<CompletedPart>,
    unfinished: bool,
}

impl Upload {
    async fn send_all<B>(&mut self, first: Bytes, source: &mut Parts<B>) -> Result<u64, ObjectError>
    where
        B: Stream<Item = std::io::Result<Bytes>>,
    {
        let mut length = 0;
        let mut part = first;
        while !part.is_empty() {
            length += part.len() as u64;
            let is_last = part.len() < PART;
            self.send(part).await?;
            if is_last {
                break;
            }
            part = source.next().await?;
        }
        self.finish().await.map(|()| length)
    }

    async fn send(&mut self, part: Bytes) -> Result<(), ObjectError> {
        let number = i32::try_from(self.parts.len() + 1).unwrap_or(i32::MAX);
        let sent = self
            .store
            .client
            .upload_part()
            .bucket(&*self.store.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .part_number(number)
            .body(ByteStream::from(part))
            .send()
            .await
            .map_err(|error| classify("upload a part", &error))?;
        self.parts.push(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(sent.e_tag)
                .build(),
        );
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), ObjectError> {
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(self.parts.clone()))
            .build();
        self.store
            .client
            .complete_multipart_upload()
            .bucket(&*self.store.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .multipart_upload(parts)
            .send()
            .await
            .map_err(|error| classify("finish an upload", &error))?;
        self.unfinished = false;
        Ok(())
    }

    async fn abort(mut self) {
        self.unfinished = false;
        abort(&self.store, &self.key, &self.id).await;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.unfinished {
            return;
        }
        // the future of the upload was dropped: its client hung up
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (store, key, id) = (
            self.store.clone(),
            std::mem::take(&mut self.key),
            std::mem::take(&mut self.id),
        );
        runtime.spawn(async move { abort(&store, &key, &id).await });
    }
}

async fn abort(store: &ObjectStore, key: &str, id: &str) {
    let request = store
        .client
        .abort_multipart_upload()
        .bucket(&*store.bucket)
        .key(key)
        .upload_id(id);
    if let Err(error) = request.send().await {
        let error = classify("take back an upload", &error);
        tracing::warn!(%error, "parts of an unfinished upload are left in object storage");
    }
}
