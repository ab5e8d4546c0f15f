//! Redis as a single node, a Cluster or in process, behind one type.
