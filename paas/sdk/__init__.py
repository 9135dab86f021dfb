"""What programs carry to speak with the platform: single files without dependencies (L4).

`paas_component.py` is copied into a bundle; it is never imported by the platform itself.
"""
