//! Object storage over S3: path style, presigned URLs, multipart.
