"""Hollow nodes: nodes and the lives of their pods as objects of the API, without a container behind them.

life        what a pod's status says at each point of its life
nodes       registers nodes, keeps their leases, and lets their pods live
command     `windlass simulate`
"""
