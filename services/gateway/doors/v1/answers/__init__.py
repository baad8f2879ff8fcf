"""What the routes of `/v1` answer, as structs.

Times are RFC 3339 in UTC with a Z, written by the encoder of these structs and by nobody else.
"""
