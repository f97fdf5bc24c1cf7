//! Nodes: network namespaces with cgroups, links and proxies.
