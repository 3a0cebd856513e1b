"""What all parts of Pointsman agree on: modes, configuration, prices, tenants' keys, errors and names.

The lowest layer: it imports no other room, opens no socket and no file but the configuration it is given.
"""
