//! The layers around every router: request ids, limits, security headers, CORS, metrics, time-outs (core §1).
