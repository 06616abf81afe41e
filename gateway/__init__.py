"""The relay: takes signed work from devices over HTTP and gets it onto the chain.

    from gateway.app import create_app      the Flask application
    from gateway.worker import Worker       what broadcasts, confirms and indexes

It can delay what it is given, never forge it: devices sign, and keep their signed bytes.
"""
