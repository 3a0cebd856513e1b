"""The web console: the two tracks, the money and the reasons, for people who look rather than read logs.

A process of its own that knows one router's public address and nothing else: whatever it shows or changes it asks
for with the key of whoever is logged in. So it can see no more than that key may, and it can neither slow nor break
the data plane. It imports neither the router nor the store.
"""
